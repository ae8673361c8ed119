package nydusmount

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// The names of whiteouts, as the OCI image specification has them.
const (
	WhiteoutPrefix = ".wh."         // before the name that is deleted
	WhiteoutOpaque = ".wh..wh..opq" // all that layers below put into the folder
)

// IsWhiteout says whether a file's name is that of a whiteout.
func IsWhiteout(name string) bool { return strings.HasPrefix(path.Base(name), WhiteoutPrefix) }

// Whiteout says what a whiteout's name, without folder, deletes beside it: a name,
// or with opaque all that layers below put there. ok is false for other names.
func Whiteout(base string) (deletes string, opaque, ok bool) {
	if base == WhiteoutOpaque {
		return "", true, true
	}
	deletes, ok = strings.CutPrefix(base, WhiteoutPrefix)
	return deletes, false, ok
}

// An Overlay is what the trees of an image's layers give when they are applied
// one onto the other.
type Overlay struct {
	root  *overlayNode
	names *rafs.Budget // that the trees may have together
}

// An overlayNode is one path of an overlay.
type overlayNode struct {
	layer    int
	inode    rafs.Inode
	children map[string]*overlayNode
}

// Overlay applies the layers' trees, bottom first. All layers must have one. Like
// what compares the result, it ends when ctx does, with its cause.
func (m *Mount) Overlay(ctx context.Context) (*Overlay, error) {
	o := &Overlay{root: &overlayNode{}, names: rafs.NewBudget(rafs.BoundNames, m.Image.Limits().Names)}
	for n, view := range m.Layers {
		if err := o.apply(ctx, n, view.Tree); err != nil {
			return nil, fmt.Errorf("tree of layer %d, in blob %s: %w", n+1, m.Image.Layers[n].Digest, err)
		}
	}
	return o, nil
}

// Layer returns the index of the layer that brought what the path shows, and
// whether the path is there.
func (o *Overlay) Layer(name string) (int, bool) {
	node := o.lookup(name)
	if node == nil {
		return 0, false
	}
	return node.layer, true
}

func (o *Overlay) apply(ctx context.Context, layer int, tree *rafs.Tree) error {
	o.root.layer, o.root.inode = layer, tree.Root()
	// The directories from the root down to the one that is being walked.
	stack := []*overlayNode{o.root}
	if err := o.whiteouts(layer, o.root, tree.Root()); err != nil {
		return err
	}
	return tree.WalkContext(ctx, func(name string, inode rafs.Inode) error {
		if name == "." {
			return nil
		}
		if err := o.names.Take("the names in the trees of all layers", 1); err != nil {
			return err
		}
		base := path.Base(name)
		if IsWhiteout(base) && layer > 0 {
			if inode.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		depth := strings.Count(name, "/")
		stack = stack[:depth+1]
		parent := stack[depth]
		node := &overlayNode{layer: layer, inode: inode}
		if inode.IsDir() {
			if below := parent.children[base]; below != nil && below.inode.IsDir() {
				node.children = below.children
			}
			if err := o.whiteouts(layer, node, inode); err != nil {
				return err
			}
			stack = append(stack, node)
		}
		if parent.children == nil {
			parent.children = make(map[string]*overlayNode)
		}
		parent.children[base] = node
		return nil
	})
}

// whiteouts takes from a directory of the layers below what this layer's
// directory deletes. In the lowest layer whiteouts are ordinary names.
func (o *Overlay) whiteouts(layer int, node *overlayNode, dir rafs.Inode) error {
	if layer == 0 {
		return nil
	}
	entries, err := dir.Entries()
	if err != nil {
		return err
	}
	for _, e := range entries {
		switch name, opaque, ok := Whiteout(e.Name); {
		case opaque:
			node.children = nil
		case ok:
			delete(node.children, name)
		}
	}
	return nil
}

// A Contradiction is a path at which the layers' trees do not give what the
// merged tree shows.
type Contradiction struct {
	Path   string
	Reason string
}

func (c *Contradiction) Error() string { return fmt.Sprintf("%q: %s", c.Path, c.Reason) }

// Compare returns the first path, in the order of a walk, at which the overlay
// differs from the merged tree in what a container would see: names, types,
// permissions, owners, sizes, contents, link targets and device numbers. nil
// means that there is none.
func (o *Overlay) Compare(ctx context.Context, merged *rafs.Tree) (*Contradiction, error) {
	var first *Contradiction
	err := o.Contradictions(ctx, merged, func(c *Contradiction) error {
		first = c
		return fs.SkipAll
	})
	return first, err
}

// Contradictions calls fn for each path at which the overlay differs from the
// merged tree, as in [Overlay.Compare]: in the order of a walk, then the paths
// that the merged tree lacks. fn may return [fs.SkipAll]; its other errors are
// returned as they are.
func (o *Overlay) Contradictions(ctx context.Context, merged *rafs.Tree, fn func(*Contradiction) error) error {
	shared, stopped := 0, false // paths in both
	report := func(name, reason string) error {
		err := fn(&Contradiction{name, reason})
		stopped = err == fs.SkipAll
		return err
	}
	err := merged.WalkContext(ctx, func(name string, inode rafs.Inode) error {
		node := o.lookup(name)
		if node == nil {
			return report(name, "no layer brings it")
		}
		shared++
		reason, err := differs(node.inode, inode)
		if err != nil || reason == "" {
			return err
		}
		return report(name, fmt.Sprintf("layer %d brings it with another %s", node.layer+1, reason))
	})
	if err != nil || stopped || o.root.count() == shared {
		return err
	}
	extra := o.extra(ctx, merged)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for _, name := range extra {
		if err := report(name, "a layer brings it, the image does not show it"); err == fs.SkipAll {
			return nil
		} else if err != nil {
			return err
		}
	}
	return nil
}

func (o *Overlay) lookup(name string) *overlayNode {
	node := o.root
	if name == "." {
		return node
	}
	for part := range strings.SplitSeq(name, "/") {
		if node = node.children[part]; node == nil {
			return nil
		}
	}
	return node
}

func (n *overlayNode) count() int {
	total := 1
	for _, child := range n.children {
		total += child.count()
	}
	return total
}

// extra returns the paths that the layers give and the merged tree lacks, sorted,
// of a directory its own alone: not all of them once ctx has ended.
func (o *Overlay) extra(ctx context.Context, merged *rafs.Tree) []string {
	var extra []string
	var visit func(prefix string, n *overlayNode)
	visit = func(prefix string, n *overlayNode) {
		for name, child := range n.children {
			if ctx.Err() != nil {
				return
			}
			full := path.Join(prefix, name)
			if _, err := merged.Lookup(full); err != nil {
				extra = append(extra, full)
				continue
			}
			visit(full, child)
		}
	}
	visit("", o.root)
	slices.Sort(extra)
	return extra
}

// differs names the first property in which two inodes differ, or "".
func differs(a, b rafs.Inode) (string, error) {
	switch {
	case a.Mode != b.Mode:
		return "mode", nil
	case a.UID != b.UID || a.GID != b.GID:
		return "owner", nil
	case a.Rdev != b.Rdev:
		return "device number", nil
	case a.IsSymlink():
		targetA, err := a.Readlink()
		if err != nil {
			return "", err
		}
		targetB, err := b.Readlink()
		if err != nil || targetA == targetB {
			return "", err
		}
		return "target", nil
	case !a.IsRegular():
		return "", nil
	case a.Size != b.Size:
		return "size", nil
	}
	chunksA, err := a.Chunks()
	if err != nil {
		return "", err
	}
	chunksB, err := b.Chunks()
	if err != nil {
		return "", err
	}
	same := slices.EqualFunc(chunksA, chunksB, func(x, y rafs.Chunk) bool {
		return x.FileOffset == y.FileOffset && x.UncompressedSize == y.UncompressedSize &&
			x.HasDigest && y.HasDigest && bytes.Equal(x.Digest[:], y.Digest[:])
	})
	if !same {
		return "content", nil
	}
	return "", nil
}
