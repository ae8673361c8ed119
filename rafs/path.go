package rafs

import (
	"errors"
	"io/fs"
	"strings"
)

var errTooManySymlinks = errors.New("too many levels of symbolic links")

// validPath is fs.ValidPath without its demand for UTF-8: names in an image
// are bytes, and one that no scanner can open is a hiding place.
func validPath(name string) bool {
	if name == "." {
		return true
	}
	for element := range strings.SplitSeq(name, "/") {
		if element == "" || element == "." || element == ".." {
			return false
		}
	}
	return true
}

// Resolve follows a path as a process that is confined to the tree by chroot
// would: an absolute target of a symbolic link starts at the tree's root, and
// ".." stops there. The last element is followed too if it is a symbolic link
// and followLast is set. It returns the inode and its path, which leads through
// no symbolic link.
//
// The path is one for [Tree.Lookup], and errors are as there.
func (t *Tree) Resolve(name string, followLast bool) (string, Inode, error) {
	at, err := t.resolve(name, followLast)
	if err != nil {
		return "", Inode{}, &fs.PathError{Op: "lookup", Path: name, Err: err}
	}
	return at.path(), at.inode, nil
}

// A place is an inode and the way to it.
type place struct {
	inode Inode
	// above holds the directories that were passed, names what was passed
	// through them.
	above []Inode
	names []string
}

func (p *place) path() string {
	if len(p.names) == 0 {
		return "."
	}
	return strings.Join(p.names, "/")
}

// resolve is Resolve without the words around its errors.
func (t *Tree) resolve(name string, followLast bool) (place, error) {
	if !validPath(name) {
		return place{}, fs.ErrInvalid
	}
	at := place{inode: t.root}
	links := 0
	for rest := name; rest != ""; {
		element, tail, _ := strings.Cut(rest, "/")
		rest = tail
		if !at.inode.IsDir() {
			return place{}, fs.ErrNotExist
		}
		switch element {
		case "", ".":
			continue
		case "..":
			if n := len(at.above); n > 0 {
				at = place{at.above[n-1], at.above[:n-1], at.names[:n-1]}
			}
			continue
		}
		next, err := at.inode.Child(element)
		if err != nil {
			return place{}, err
		}
		if !next.IsSymlink() || rest == "" && !followLast {
			at = place{next, append(at.above, at.inode), append(at.names, element)}
			continue
		}
		if links++; links > maxSymlinks {
			return place{}, errTooManySymlinks
		}
		target, err := next.Readlink()
		if err != nil {
			return place{}, err
		}
		if strings.HasPrefix(target, "/") {
			at = place{inode: t.root}
		}
		if rest != "" {
			target += "/" + rest
		}
		rest = target
	}
	return at, nil
}
