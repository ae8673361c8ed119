// Package consistency says whether two filesystems are the same.
//
// A [Filesystem] walks its paths as [Node] values: type, mode, owner, times,
// device number, link target, extended attributes, hard links and content.
// [Tree] is one over a Nydus image's bootstrap and data, [Dir] one over a folder
// of this machine, such as a mount by nydusd. [Compare] reports every
// difference, field by field.
package consistency

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// A Node is what a filesystem has under one path.
type Node struct {
	Path string // slash-separated, "." is the root
	// Mode is st_mode as in Linux.
	Mode  uint32
	UID   uint32
	GID   uint32
	Rdev  uint64 // major<<32 | minor; 0 but for devices
	Size  int64  // of regular files and symbolic links; else 0
	MTime time.Time
	// Target is that of a symbolic link.
	Target string
	Xattrs map[string][]byte
	// Links is how many names the file has, 1 for directories; Inode tells which
	// names are one file, within one filesystem.
	Links uint64
	Inode uint64
	// Open gives the content of a regular file.
	Open func() (io.ReadCloser, error)
}

// A Filesystem walks its nodes, each path once.
type Filesystem interface {
	Walk(fn func(Node) error) error
}

// A Difference is one field in which two filesystems differ at a path.
type Difference struct {
	Path  string
	Field string // "missing", "extra", or a field's name
	Want  string
	Got   string
}

func (d Difference) String() string {
	switch d.Field {
	case "missing", "extra":
		return fmt.Sprintf("%q: %s", d.Path, d.Field)
	}
	return fmt.Sprintf("%q: %s is %s, want %s", d.Path, d.Field, d.Got, d.Want)
}

// Compare reports every difference, sorted by path and field. What cannot be
// read is an error, never a difference.
func Compare(want, got Filesystem) ([]Difference, error) {
	expected := make(map[string]Node)
	wantLinks := make(map[uint64][]string)
	if err := want.Walk(func(n Node) error {
		expected[n.Path] = n
		if n.Links > 1 {
			wantLinks[n.Inode] = append(wantLinks[n.Inode], n.Path)
		}
		return nil
	}); err != nil {
		return nil, err
	}
	var differences []Difference
	gotLinks := make(map[uint64][]string)
	var linked []Node
	if err := got.Walk(func(n Node) error {
		w, ok := expected[n.Path]
		if !ok {
			differences = append(differences, Difference{Path: n.Path, Field: "extra"})
			return nil
		}
		delete(expected, n.Path)
		if n.Links > 1 {
			gotLinks[n.Inode] = append(gotLinks[n.Inode], n.Path)
		}
		if n.Links > 1 || w.Links > 1 {
			linked = append(linked, w, n)
		}
		found, err := compareNodes(w, n)
		differences = append(differences, found...)
		return err
	}); err != nil {
		return nil, err
	}
	for path := range expected {
		differences = append(differences, Difference{Path: path, Field: "missing"})
	}
	for pair := range slices.Chunk(linked, 2) {
		w, g := names(wantLinks, pair[0]), names(gotLinks, pair[1])
		if w != g {
			differences = append(differences, Difference{pair[0].Path, "hard links", w, g})
		}
	}
	slices.SortFunc(differences, func(a, b Difference) int {
		return cmp.Or(strings.Compare(a.Path, b.Path), strings.Compare(a.Field, b.Field))
	})
	return differences, nil
}

func names(links map[uint64][]string, n Node) string {
	if n.Links <= 1 {
		return "none"
	}
	return fmt.Sprintf("%q", slices.Sorted(slices.Values(links[n.Inode])))
}

func compareNodes(want, got Node) ([]Difference, error) {
	var found []Difference
	field := func(name string, same bool, w, g any) {
		if !same {
			found = append(found, Difference{want.Path, name, fmt.Sprint(w), fmt.Sprint(g)})
		}
	}
	field("mode", want.Mode == got.Mode, fmt.Sprintf("%#o", want.Mode), fmt.Sprintf("%#o", got.Mode))
	field("uid", want.UID == got.UID, want.UID, got.UID)
	field("gid", want.GID == got.GID, want.GID, got.GID)
	field("rdev", want.Rdev == got.Rdev, want.Rdev, got.Rdev)
	field("size", want.Size == got.Size, want.Size, got.Size)
	field("mtime", want.MTime.Equal(got.MTime), want.MTime.UTC(), got.MTime.UTC())
	field("target", want.Target == got.Target, fmt.Sprintf("%q", want.Target), fmt.Sprintf("%q", got.Target))
	field("links", want.Links == got.Links, want.Links, got.Links)
	for _, name := range slices.Sorted(maps.Keys(want.Xattrs)) {
		value, ok := got.Xattrs[name]
		field("xattr "+name, ok && bytes.Equal(want.Xattrs[name], value), fmt.Sprintf("%q", want.Xattrs[name]), fmt.Sprintf("%q", value))
	}
	for _, name := range slices.Sorted(maps.Keys(got.Xattrs)) {
		if _, ok := want.Xattrs[name]; !ok {
			field("xattr "+name, false, "none", fmt.Sprintf("%q", got.Xattrs[name]))
		}
	}
	if want.Open == nil || got.Open == nil || want.Size != got.Size {
		return found, nil
	}
	w, err := hash(want)
	if err != nil {
		return found, err
	}
	g, err := hash(got)
	field("content", w == g, fmt.Sprintf("sha256:%x", w), fmt.Sprintf("sha256:%x", g))
	return found, err
}

func hash(n Node) (sum [32]byte, err error) {
	content, err := n.Open()
	if err != nil {
		return sum, fmt.Errorf("open %s: %w", n.Path, err)
	}
	defer content.Close()
	h := sha256.New()
	size, err := io.Copy(h, content)
	if err == nil && size != n.Size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return sum, fmt.Errorf("read %s: %w", n.Path, err)
	}
	return [32]byte(h.Sum(nil)), nil
}

// What st_mode says of a node's type.
const (
	typeMask    = 0o170000
	typeDir     = 0o040000
	typeChar    = 0o020000
	typeBlock   = 0o060000
	typeRegular = 0o100000
	typeSymlink = 0o120000
)

// normalize leaves out what a node of its type does not have.
func (n Node) normalize() Node {
	switch n.Mode & typeMask {
	case typeDir:
		n.Size, n.Links, n.Rdev = 0, 1, 0
	case typeChar, typeBlock:
		n.Size = 0
	case typeRegular, typeSymlink:
		n.Rdev = 0
	default:
		n.Size, n.Rdev = 0, 0
	}
	return n
}
