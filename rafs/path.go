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

// resolve returns the inode that a path leads to, as a process that is
// confined to the tree by chroot would see it: an absolute target starts at
// the tree's root, and ".." stops there. The last element is followed too if
// it is a symbolic link and followLast is set.
func (t *Tree) resolve(name string, followLast bool) (Inode, error) {
	if !validPath(name) {
		return Inode{}, fs.ErrInvalid
	}
	// above holds the directories that were passed, for the sake of "..".
	var above []Inode
	current := t.root
	links := 0
	for rest := name; rest != ""; {
		element, tail, _ := strings.Cut(rest, "/")
		rest = tail
		if !current.IsDir() {
			return Inode{}, fs.ErrNotExist
		}
		switch element {
		case "", ".":
			continue
		case "..":
			if n := len(above); n > 0 {
				current, above = above[n-1], above[:n-1]
			}
			continue
		}
		next, err := current.child(element)
		if err != nil {
			return Inode{}, err
		}
		if !next.IsSymlink() || rest == "" && !followLast {
			above = append(above, current)
			current = next
			continue
		}
		if links++; links > maxSymlinks {
			return Inode{}, errTooManySymlinks
		}
		target, err := next.Readlink()
		if err != nil {
			return Inode{}, err
		}
		if strings.HasPrefix(target, "/") {
			current, above = t.root, above[:0]
		}
		if rest != "" {
			target += "/" + rest
		}
		rest = target
	}
	return current, nil
}
