package rafs

import (
	"context"
	"fmt"
	"io/fs"
)

// Walk calls fn for every name of the tree: depth first, a directory before
// its children, children in bytewise order of their names. The root's path is
// "."; other paths have no leading slash and need not be UTF-8. Every name of
// a hard-linked file is reported.
//
// fn may return [fs.SkipDir] and [fs.SkipAll], as in [fs.WalkDir]; its other
// errors are returned as they are.
//
// Walk ends on any input: a directory that is reached twice, or inodes that
// together claim more bytes than the bootstrap has, are [ErrCorrupt]. So is what
// runtimes would read in different ways (see agree.go), which is known at the end of
// a walk for chunks of v5. A path of more than 8192
// bytes is [ErrUnsupported], and more names than the tree may have, longer ones, or
// larger lists of theirs are a [*LimitError].
func (t *Tree) Walk(fn func(path string, i Inode) error) error {
	return t.WalkContext(context.Background(), fn)
}

// WalkContext is Walk that ends when ctx does, with its cause: a small bootstrap may
// have millions of names.
func (t *Tree) WalkContext(ctx context.Context, fn func(path string, i Inode) error) error {
	w := walker{
		tree:    t,
		seen:    make(bitSet, t.format.nodes()/64+1),
		unspent: t.size,
		names:   t.names,
		paths:   t.names * namePath,
		lists:   t.lists,
	}
	w.keepXattr = func(name string, value []byte) error {
		if w.lists -= xattrSize(name, value); w.lists < 0 {
			return fs.SkipAll
		}
		return nil
	}
	err := t.format.agree()
	if err == nil {
		err = w.walk(func(path string, i Inode) error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return fn(path, i)
		})
	}
	switch {
	case err == fs.SkipAll:
		return nil
	case err != nil:
		return err
	}
	if err := t.format.agreeChunks(ctx, w.seen, !w.skipped); err != nil {
		return fmt.Errorf("walk: %w", err)
	}
	return nil
}

// A walker is the state of one Walk. It keeps its own stack: a hostile tree's
// depth must not be the depth of a recursion.
type walker struct {
	tree    *Tree
	path    []byte
	stack   []level
	seen    bitSet // nodes
	skipped bool   // a part of the tree was
	unspent uint64 // bytes of the bootstrap that no inode has claimed yet
	names   int64  // how many more there may be
	paths   int64  // how many bytes they may have
	lists   int64  // how many bytes their lists may take
	// keepXattr takes an attribute from lists: one function for all inodes.
	keepXattr func(name string, value []byte) error
}

// A level is a directory whose children are being walked.
type level struct {
	cursor     cursor
	pathLength int // of the directory's path in walker.path
}

func (w *walker) walk(fn func(path string, i Inode) error) error {
	if err := w.visit(".", w.tree.root, fn); err != nil {
		w.skipped = err == fs.SkipDir
		if w.skipped {
			return nil
		}
		return err
	}
	for len(w.stack) > 0 {
		top := &w.stack[len(w.stack)-1]
		w.path = w.path[:top.pathLength]
		child, ok, err := top.cursor.step()
		if err != nil {
			return fmt.Errorf("walk %q: %w", w.directoryPath(), err)
		}
		if !ok {
			w.stack = w.stack[:len(w.stack)-1]
			continue
		}
		if len(w.path) > 0 {
			w.path = append(w.path, '/')
		}
		w.path = append(w.path, child.name...)
		if len(w.path) > maxPathLength {
			return fmt.Errorf("walk %q: %w", child.name,
				unsupportedf("its path has %d bytes, more than %d", len(w.path), maxPathLength))
		}
		path := string(w.path)
		inode, err := w.tree.inode(child.node)
		if err != nil {
			return fmt.Errorf("walk %q: %w", path, err)
		}
		err = w.visit(path, inode, fn)
		w.skipped = w.skipped || err == fs.SkipDir
		switch {
		case err == fs.SkipDir && inode.IsDir():
		case err == fs.SkipDir:
			w.stack = w.stack[:len(w.stack)-1]
		case err != nil:
			return err
		}
	}
	return nil
}

// visit reports one name and, if it is a directory, descends into it.
func (w *walker) visit(path string, i Inode, fn func(path string, i Inode) error) error {
	if err := w.count(path); err != nil {
		return err
	}
	if err := w.claim(i); err != nil {
		return fmt.Errorf("walk %q: %w", path, err)
	}
	if err := w.keep(i); err != nil {
		return err
	}
	if err := fn(path, i); err != nil {
		return err
	}
	if !i.IsDir() {
		return nil
	}
	c, err := i.cursor()
	if err != nil {
		return fmt.Errorf("walk %q: %w", path, err)
	}
	w.stack = append(w.stack, level{cursor: c, pathLength: len(w.path)})
	return nil
}

// count bounds what a caller may keep of the names.
func (w *walker) count(path string) error {
	w.names--
	w.paths -= int64(len(path))
	switch {
	case w.names < 0:
		return &LimitError{Bound: BoundNames, What: "the tree's names", Allowed: w.tree.names}
	case w.paths < 0:
		return &LimitError{Bound: BoundNames, What: fmt.Sprintf("the tree's paths, of %d bytes on average", namePath), Allowed: w.tree.names}
	}
	return nil
}

// keep bounds what a caller may keep of the lists that belong to a name. A name of many
// takes them once more, though the bootstrap has them once, and in few bytes: a chunk in 8,
// an attribute in 6. What is wrong with a list, who reads it is told.
func (w *walker) keep(i Inode) error {
	if w.lists -= i.chunkListSize(); w.lists >= 0 {
		_ = w.tree.format.xattrs(i.node, w.keepXattr)
	}
	if w.lists < 0 {
		return &LimitError{Bound: BoundMetadata, What: "the lists of chunks and extended attributes of the tree's names", Allowed: w.tree.lists}
	}
	return nil
}

// claim accounts for the part of the bootstrap that belongs to i, the first
// time that i is met. Inodes that share their parts would let a small
// bootstrap stand for any number of names, chunks and attributes.
func (w *walker) claim(i Inode) error {
	if w.seen.has(i.node) {
		if i.IsDir() {
			return corruptf("directory inode %d is reached twice", i.Number)
		}
		return nil
	}
	w.seen.add(i.node)
	if err := w.tree.format.agreeInode(i.node); err != nil {
		return err
	}
	footprint, err := w.tree.format.footprint(i.node)
	if err != nil {
		return err
	}
	if footprint > w.unspent {
		return corruptf("inodes claim more bytes than the bootstrap has")
	}
	w.unspent -= footprint
	return nil
}

// directoryPath returns the path that w.path stands for.
func (w *walker) directoryPath() string {
	if len(w.path) == 0 {
		return "."
	}
	return string(w.path)
}
