package rafs

import (
	"bytes"
	"fmt"
	"io/fs"
	"sort"
)

// A directory is the list of names of one directory as stored.
type directory interface {
	// len returns the number of stored entries.
	len() int
	// entry returns the entry k, 0 <= k < len(). Only its place is checked.
	entry(k int) (dirent, error)
}

// A dirent is one stored name of a directory.
type dirent struct {
	name []byte // part of the bootstrap
	node uint64
	kind uint8 // v6: the type of the inode, as EROFS numbers them
	// dots marks a stored "." or "..", which leads back up and is no child.
	dots bool
}

// A cursor steps through the children of a directory and checks their names.
type cursor struct {
	directory directory
	next      int
	previous  []byte
}

// step returns the next child; ok is false at the end.
func (c *cursor) step() (child dirent, ok bool, err error) {
	for c.next < c.directory.len() {
		child, err = c.directory.entry(c.next)
		if err != nil {
			return dirent{}, false, err
		}
		if !child.dots {
			if err := checkName(child.name); err != nil {
				return dirent{}, false, err
			}
		}
		// Strictly ascending means sorted and without duplicates: what a
		// runtime that searches by halving finds is then what is listed here.
		if c.next > 0 && bytes.Compare(c.previous, child.name) >= 0 {
			return dirent{}, false, corruptf("directory entry %q does not sort after %q", child.name, c.previous)
		}
		c.previous = child.name
		c.next++
		if !child.dots {
			return child, true, nil
		}
	}
	return dirent{}, false, nil
}

// checkName rejects what cannot be one element of a path.
func checkName(name []byte) error {
	switch {
	case len(name) == 0:
		return corruptf("a directory entry has no name")
	case len(name) > maxNameLength:
		return corruptf("the name of a directory entry has %d bytes, more than %d", len(name), maxNameLength)
	case string(name) == "." || string(name) == "..":
		return corruptf("a directory entry is named %q", name)
	case bytes.IndexByte(name, '/') >= 0 || bytes.IndexByte(name, 0) >= 0:
		return corruptf("the name %q of a directory entry has a slash or a NUL byte", name)
	}
	return nil
}

// cursor returns a cursor before the first child of a directory.
func (i Inode) cursor() (cursor, error) {
	if !i.IsDir() {
		return cursor{}, fmt.Errorf("list inode %d: not a directory: %w", i.Number, fs.ErrInvalid)
	}
	d, err := i.tree.format.directory(i.node)
	if err != nil {
		return cursor{}, fmt.Errorf("list directory inode %d: %w", i.Number, err)
	}
	return cursor{directory: d}, nil
}

// Child finds a child by halving, relying on the order that listing checks: in a
// directory that is not sorted it may miss a name, and no walk accepts that tree.
// Where i is no directory or has no such child, the error is [fs.ErrNotExist].
func (i Inode) Child(name string) (Inode, error) {
	if !i.IsDir() {
		return Inode{}, fs.ErrNotExist
	}
	found, ok, err := i.tree.format.child(i.node, name)
	switch {
	case err != nil:
		return Inode{}, fmt.Errorf("search directory inode %d: %w", i.Number, err)
	case !ok || found.dots:
		return Inode{}, fs.ErrNotExist
	}
	return i.tree.inode(found.node)
}

// search finds a name in a list by halving.
func search(d directory, name string) (found dirent, ok bool, err error) {
	_, ok = sort.Find(d.len(), func(k int) int {
		e, entryErr := d.entry(k)
		if entryErr != nil {
			err = entryErr
			return 0
		}
		// The comparison converts without allocating.
		switch {
		case name < string(e.name):
			return -1
		case name > string(e.name):
			return 1
		}
		found = e
		return 0
	})
	return found, ok, err
}

// Entries returns the children of a directory, sorted bytewise by name,
// without "." and "..". What is not a directory is [fs.ErrInvalid].
func (i Inode) Entries() ([]Entry, error) {
	c, err := i.cursor()
	if err != nil {
		return nil, err
	}
	if n := int64(c.directory.len()); n > i.tree.names {
		return nil, &LimitError{Bound: BoundNames, What: fmt.Sprintf("the entries of directory inode %d", i.Number), Allowed: i.tree.names}
	}
	entries := make([]Entry, 0, c.directory.len())
	for {
		child, ok, err := c.step()
		if err != nil {
			return nil, fmt.Errorf("list directory inode %d: %w", i.Number, err)
		}
		if !ok {
			return entries, nil
		}
		inode, err := i.tree.inode(child.node)
		if err != nil {
			return nil, fmt.Errorf("read inode of %q: %w", child.name, err)
		}
		entries = append(entries, Entry{Name: string(child.name), Inode: inode})
	}
}
