package inspect

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// A Change is what a layer does to one path.
type Change struct {
	Change string `json:"change"` // "added", "changed" or "deleted"
	Path
	// Type and Size are those that the layer brings; of what is deleted, those that
	// were below.
	Type string `json:"type"`
	Size int64  `json:"size"`
	// Fields name what is changed.
	Fields []string `json:"fields,omitempty"`
}

// The values of Change.Change. A path that is unchanged is not listed.
const (
	added     = "added"
	changed   = "changed"
	deleted   = "deleted"
	unchanged = "unchanged"
)

func newChange(what, name string, i rafs.Inode) *Change {
	return &Change{Change: what, Path: newPath(name), Type: typeOf(i).name, Size: i.Size}
}

// changesOf lists what a layer does to the layers below it.
func (s *Session) changesOf(ctx context.Context, layer int) (Answer, error) {
	if _, err := s.treeOf(ctx, layer); err != nil {
		return nil, err
	}
	return rows[*Change]{
		each: func(yield func(*Change) error) error {
			return s.walkChanges(ctx, layer, func(c *Change) error {
				if c.Change == unchanged {
					return nil
				}
				return yield(c)
			})
		},
		text: func(w *bufio.Writer, c *Change) {
			fmt.Fprintf(w, "%c %s", c.Change[0]-'a'+'A', Escape(c.Path.Path))
			if len(c.Fields) > 0 {
				fmt.Fprintf(w, " (%s)", strings.Join(c.Fields, ", "))
			}
			w.WriteByte('\n')
		},
	}, nil
}

// walkChanges calls fn for each path that a layer's tree has or deletes, but for
// the root.
func (s *Session) walkChanges(ctx context.Context, layer int, fn func(*Change) error) error {
	// A stack holds the trees up to the layer, the top first.
	var stack []*rafs.Tree
	for n := layer; n > 0; n-- {
		tree, err := s.treeOf(ctx, n)
		if err != nil {
			return err
		}
		stack = append(stack, tree)
	}
	d := differ{own: stack[0], below: stack[1:], fn: fn}
	return d.own.WalkContext(ctx, d.visit)
}

// A differ compares a layer's tree with those below it.
type differ struct {
	own   *rafs.Tree
	below []*rafs.Tree // top first
	fn    func(*Change) error
}

func (d *differ) visit(name string, i rafs.Inode) error {
	if name == root {
		return nil
	}
	if deletes, opaque, ok := nydusmount.Whiteout(path.Base(name)); ok && len(d.below) > 0 {
		err := d.whiteout(path.Dir(name), deletes, opaque)
		if err == nil && i.IsDir() {
			return fs.SkipDir
		}
		return err
	}
	was, ok := d.lookup(name)
	if !ok {
		return d.fn(newChange(added, name, i))
	}
	fields, err := differing(was, i)
	if err != nil {
		return fmt.Errorf("%s: %w", absolute(name), err)
	}
	c := newChange(unchanged, name, i)
	if len(fields) > 0 {
		c.Change, c.Fields = changed, fields
	}
	return d.fn(c)
}

// whiteout reports what a whiteout in a directory deletes. What the layer itself
// puts in its place is changed, not deleted.
func (d *differ) whiteout(directory, deletes string, opaque bool) error {
	names := []string{deletes}
	if opaque {
		names = d.children(directory)
	}
	for _, base := range names {
		name := path.Join(directory, base)
		if _, err := d.own.Lookup(name); err == nil {
			continue
		}
		if was, ok := d.lookup(name); ok {
			if err := d.fn(newChange(deleted, name, was)); err != nil {
				return err
			}
		}
	}
	return nil
}

// children returns the names that any layer below has in a directory.
func (d *differ) children(directory string) []string {
	names := make(map[string]bool)
	for _, tree := range d.below {
		folder, err := tree.Lookup(directory)
		if err != nil || !folder.IsDir() {
			continue
		}
		entries, err := folder.Entries()
		if err != nil {
			continue // lookup meets the same
		}
		for _, e := range entries {
			names[e.Name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// lookup finds what the layers below show under a path.
func (d *differ) lookup(name string) (rafs.Inode, bool) {
	for n, tree := range d.below {
		lowest := n == len(d.below)-1
		if !lowest && nydusmount.IsWhiteout(name) {
			continue // there it is none of the files
		}
		inode, found, hides := descend(tree, name)
		if found {
			return inode, true
		}
		if hides {
			break
		}
	}
	return rafs.Inode{}, false
}

// descend finds a path in a layer's tree or, where the tree lacks it, says whether it
// takes away what layers below have there. It goes down once: paths have thousands of
// elements where somebody wants it.
func descend(tree *rafs.Tree, name string) (at rafs.Inode, found, hides bool) {
	at = tree.Root()
	for element := range strings.SplitSeq(name, "/") {
		if !at.IsDir() {
			return at, false, true
		}
		for _, whiteout := range []string{nydusmount.WhiteoutPrefix + element, nydusmount.WhiteoutOpaque} {
			if _, err := at.Child(whiteout); err == nil {
				hides = true
			}
		}
		var err error
		if at, err = at.Child(element); err != nil {
			return at, false, hides
		}
	}
	return at, true, false
}

// differing names the fields in which two inodes differ.
func differing(a, b rafs.Inode) ([]string, error) {
	if a.Mode&modeType != b.Mode&modeType {
		return []string{"type"}, nil
	}
	var fields []string
	field := func(name string, same bool) {
		if !same {
			fields = append(fields, name)
		}
	}
	field("mode", a.Mode == b.Mode)
	field("owner", a.UID == b.UID && a.GID == b.GID)
	field("mtime", a.MTime == b.MTime && a.MTimeNsec == b.MTimeNsec)
	field("device", a.Rdev == b.Rdev)
	if a.IsSymlink() {
		targetA, err := a.Readlink()
		if err != nil {
			return nil, err
		}
		targetB, err := b.Readlink()
		if err != nil {
			return nil, err
		}
		field("target", targetA == targetB)
	}
	if a.IsRegular() {
		same, err := sameContent(a, b)
		if err != nil {
			return nil, err
		}
		field("content", same)
	}
	xattrsA, err := a.Xattrs()
	if err != nil {
		return nil, err
	}
	xattrsB, err := b.Xattrs()
	if err != nil {
		return nil, err
	}
	field("xattrs", maps.EqualFunc(xattrsA, xattrsB, bytes.Equal))
	return fields, nil
}

// sameContent compares two files by the digests of their chunks.
func sameContent(a, b rafs.Inode) (bool, error) {
	if a.Size != b.Size {
		return false, nil
	}
	chunksA, err := a.Chunks()
	if err != nil {
		return false, err
	}
	chunksB, err := b.Chunks()
	if err != nil {
		return false, err
	}
	return slices.EqualFunc(chunksA, chunksB, func(x, y rafs.Chunk) bool {
		return x.FileOffset == y.FileOffset && x.UncompressedSize == y.UncompressedSize &&
			x.HasDigest && y.HasDigest && x.Digest == y.Digest
	}), nil
}
