package consistency

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// An ociTree is the filesystem of an OCI image, its layers applied in memory.
//
// What it shows is what the layers say, applied as containerd applies them and
// overlayfs stacks them (see [ociLayer] and [ociTree.apply]): a container would
// see the same, but for what the unpacking system cannot keep, such as times
// before 1970 or the attributes of its own namespace, where the layers' word
// counts. A directory that no layer names is root's with mode 0755; nothing says
// its time.
type ociTree struct {
	root *ociNode
}

// An ociNode is a name in a directory: of a layer, or of all layers applied.
type ociNode struct {
	// inode is nil for what only a whiteout names, and for a link to a file of a
	// lower layer until that is found.
	inode *ociInode
	// children, by name, of a directory; nil stands for none.
	children map[string]*ociNode
	// implied is a directory that no entry names, but for what lies below it.
	implied bool
	// touched is a directory in which an upper layer has something, but which it
	// does not name: what its time is then depends on who unpacks the layers.
	touched bool

	// whiteout and opaque are a layer's: what lower layers have under this name,
	// or in this directory, is deleted.
	whiteout bool
	opaque   bool
}

// An ociInode is a file, of whichever type. Hard links share it.
type ociInode struct {
	mode     uint32 // st_mode as in Linux
	uid, gid uint32
	rdev     uint64 // as in [Node]
	size     int64
	mtime    time.Time
	target   string
	xattrs   map[string][]byte
	content  *sums // nil where it was not hashed

	// Set by number.
	links  uint64
	number uint64
}

func (i *ociInode) isDir() bool     { return i.mode&typeMask == typeDir }
func (i *ociInode) isSymlink() bool { return i.mode&typeMask == typeSymlink }

// isDir says whether the node shows a directory.
func (n *ociNode) isDir() bool { return n != nil && n.inode != nil && n.inode.isDir() }

// child returns what an entry has put under a name, nil if none has.
func (n *ociNode) child(name string) *ociNode {
	if c := n.children[name]; c != nil && c.inode != nil {
		return c
	}
	return nil
}

// put sets a name's node. The name is copied: it may be a part of a longer one.
func (n *ociNode) put(name string, child *ociNode) {
	if n.children == nil {
		n.children = make(map[string]*ociNode)
	}
	n.children[strings.Clone(name)] = child
}

// impliedDirectory is one that no entry names.
func impliedDirectory() *ociNode {
	return &ociNode{inode: &ociInode{mode: typeDir | 0o755}, implied: true}
}

// apply puts a layer onto the tree. Whiteouts and opaque directories hide what
// the layers below have, never what their own layer has, wherever in it they
// stand. A directory that the layer only implies keeps what lower layers say of
// it.
func (t *ociTree) apply(l *ociLayer) error {
	if err := t.linkLower(l); err != nil {
		return err
	}
	type pair struct{ lower, upper *ociNode }
	if l.root.implied {
		t.root.touched = true
	} else {
		t.root.inode, t.root.implied, t.root.touched = l.root.inode, false, false
	}
	for stack := []pair{{t.root, l.root}}; len(stack) > 0; {
		lower, upper := stack[len(stack)-1].lower, stack[len(stack)-1].upper
		stack = stack[:len(stack)-1]
		if upper.opaque {
			lower.children = nil
		}
		for name, u := range upper.children {
			if u.whiteout {
				delete(lower.children, name)
			}
			switch below := lower.children[name]; {
			case u.inode == nil:
				continue
			case !u.inode.isDir():
				lower.put(name, &ociNode{inode: u.inode})
				continue
			case !below.isDir():
				lower.put(name, &ociNode{inode: u.inode, implied: u.implied})
			case u.implied:
				below.touched = true
			default:
				below.inode, below.implied, below.touched = u.inode, false, false
			}
			stack = append(stack, pair{lower.children[name], u})
		}
	}
	return nil
}

// number counts the names of each file. It is to be called once, when all
// layers are applied.
func (t *ociTree) number() {
	var last uint64
	for stack := []*ociNode{t.root}; len(stack) > 0; {
		n := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if n.inode.number == 0 {
			last++
			n.inode.number = last
		}
		n.inode.links++
		for _, child := range n.children {
			stack = append(stack, child)
		}
	}
}

// Walk implements [Filesystem], in the order of [rafs.Tree.Walk].
func (t *ociTree) Walk(fn func(Node) error) error {
	type level struct {
		path string
		node *ociNode
	}
	for stack := []level{{".", t.root}}; len(stack) > 0; {
		top := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if err := fn(top.node.show(top.path)); err != nil {
			return err
		}
		names := slices.Sorted(maps.Keys(top.node.children))
		for _, name := range slices.Backward(names) {
			path := name
			if top.node != t.root {
				path = top.path + "/" + name
			}
			stack = append(stack, level{path, top.node.children[name]})
		}
	}
	return nil
}

// show returns the node as it is compared.
func (n *ociNode) show(path string) Node {
	i := n.inode
	shown := Node{
		Path: path, Mode: i.mode, UID: i.uid, GID: i.gid, Rdev: i.rdev, Size: i.size, MTime: i.mtime,
		Target: i.target, Xattrs: i.xattrs, Links: i.links, Inode: i.number, content: i.content,
	}
	if n.touched || n.implied {
		shown.MTime, shown.NoMTime = time.Time{}, true
	}
	return shown.normalize()
}
