package inspect

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"unicode"
	"unicode/utf8"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// A Stat is all of an inode, under one of its paths.
type Stat struct {
	Node
	Xattrs []Xattr `json:"xattrs"` // by name
	// OtherPaths are those of the same inode.
	OtherPaths []Path `json:"other_paths"`
	// Layer is the layer that brought the file, nil where nothing says that.
	Layer  *Origin `json:"layer"`
	Chunks []Chunk `json:"chunks"` // in the order of the file
}

// An Xattr is an extended attribute. A value that is not UTF-8 is only in
// ValueBase64.
type Xattr struct {
	Name        string `json:"name"`
	NameBase64  []byte `json:"name_base64,omitempty"`
	Value       string `json:"value"`
	ValueBase64 []byte `json:"value_base64,omitempty"`
}

// A Path is a path beside others.
type Path struct {
	Path       string `json:"path"` // absolute
	PathBase64 []byte `json:"path_base64,omitempty"`
}

func newPath(name string) Path {
	full := absolute(name)
	return Path{full, bytesOf(full)}
}

// stat gives a [Stat].
func stat(ctx context.Context, s *Session, c *Call) (Answer, error) {
	tree, err := s.treeOf(ctx, c.layer)
	if err != nil {
		return nil, err
	}
	name, inode, err := s.find(tree, c.arg(0, "."), false)
	if err != nil {
		return nil, err
	}
	a := &Stat{Xattrs: []Xattr{}, OtherPaths: []Path{}, Chunks: []Chunk{}}
	if a.Node, err = newNode(name, inode); err != nil {
		return nil, err
	}
	if a.Xattrs, err = xattrs(inode); err != nil {
		return nil, fmt.Errorf("%s: %w", a.Path, err)
	}
	if inode.Links > 1 && !inode.IsDir() {
		if a.OtherPaths, err = otherPaths(ctx, tree, name, inode.Number); err != nil {
			return nil, err
		}
	}
	chunks, err := inode.Chunks()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", a.Path, err)
	}
	for i := range chunks {
		chunk, err := s.newChunk(ctx, c.layer, tree, &chunks[i])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", a.Path, err)
		}
		chunk.FileOffset = &chunks[i].FileOffset
		a.Chunks = append(a.Chunks, chunk)
	}
	if c.layer == 0 && s.image != nil {
		a.Layer, err = s.origin(ctx, name, inode, chunks)
	}
	return a, err
}

func xattrs(inode rafs.Inode) ([]Xattr, error) {
	all, err := inode.Xattrs()
	list := []Xattr{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		x := Xattr{Name: name, NameBase64: bytesOf(name), Value: string(all[name])}
		if !utf8.Valid(all[name]) {
			x.Value, x.ValueBase64 = "", all[name]
		}
		list = append(list, x)
	}
	return list, err
}

// otherPaths finds the paths of an inode but for one.
func otherPaths(ctx context.Context, tree *rafs.Tree, but string, number uint64) ([]Path, error) {
	paths := []Path{}
	err := tree.WalkContext(ctx, func(name string, i rafs.Inode) error {
		if i.Number == number && name != but {
			paths = append(paths, newPath(name))
		}
		return nil
	})
	return paths, err
}

// Text implements [Answer].
func (a *Stat) Text(w *bufio.Writer) error {
	field := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-12s "+format+"\n", append([]any{name + ":"}, args...)...)
	}
	field("path", "%s%s", Escape(a.Path), a.arrow())
	field("type", "%s", a.Type)
	field("mode", "%s (%s)", a.Mode, permissions(a.inode))
	field("owner", "%d:%d", a.UID, a.GID)
	field("size", "%d", a.Size)
	field("modified", "%s", timeExact(a.inode))
	field("inode", "%d", a.Inode)
	field("links", "%d", a.Links)
	if a.Device != "" {
		field("device", "%s", a.Device)
	}
	for _, p := range a.OtherPaths {
		field("also", "%s", Escape(p.Path))
	}
	for _, x := range a.Xattrs {
		field("xattr", "%s = %s", Escape(x.Name), x.text())
	}
	if a.Layer != nil {
		field("layer", "%s", a.Layer.text())
	}
	for i := range a.Chunks {
		c := &a.Chunks[i]
		if i == 0 {
			fmt.Fprintf(w, "chunks:\n%12s %5s %8s %22s %22s  %s\n", "file offset", "blob", "index", "compressed", "uncompressed", "digest")
		}
		fmt.Fprintf(w, "%12d %5d %8d %22s %22s  %s\n", *c.FileOffset, c.BlobIndex, c.Index, c.offsetText(),
			fmt.Sprintf("%d+%d", c.UncompressedOffset, c.UncompressedSize), cmp.Or(c.Digest, "-"))
	}
	return nil
}

// text shows a value as it is where that can be read, else its bytes.
func (x *Xattr) text() string {
	if x.ValueBase64 != nil {
		return fmt.Sprintf("0x%x", x.ValueBase64)
	}
	for _, r := range x.Value {
		if !unicode.IsPrint(r) {
			return fmt.Sprintf("0x%x", x.Value)
		}
	}
	return fmt.Sprintf("%q", x.Value)
}
