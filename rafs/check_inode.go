package rafs

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A linkCount is what was found of an inode that is no directory.
type linkCount struct {
	links  uint32 // as stored with the first name
	names  uint32
	unlike bool // with another name, another number is stored
}

// countLink counts a name of an inode. Only inodes with several names, or that
// say they have, are kept: of the others there are many.
func (c *checker) countLink(i Inode) {
	first := c.numbers.add(i.Number)
	if first {
		c.inodes++
	}
	if i.IsDir() {
		return
	}
	count, known := c.links[i.Number]
	switch {
	case !known && first && i.Links == 1:
		return
	case !known && !first:
		count = linkCount{links: 1, names: 1}
	case !known:
		count.links = i.Links
	}
	count.names++
	count.unlike = count.unlike || count.links != i.Links
	c.links[i.Number] = count
}

// checkLinks compares link counts with the names that were found.
func (c *checker) checkLinks(ctx context.Context) {
	for number, count := range c.links {
		if count.links == count.names && !count.unlike {
			delete(c.links, number)
		}
	}
	if len(c.links) == 0 {
		return
	}
	again := newSurvey(c.tree, func(Problem) {})
	again.visit = func(path string, i Inode, first bool) {
		count, ok := c.links[i.Number]
		if ok && first && !i.IsDir() && i.Links != count.names {
			c.problem(path, "links", count.names, i.Links)
		}
	}
	again.walk(ctx)
}

// xattrNamespaces are what the names of extended attributes begin with. Builders
// refuse others; nydusd does not show them.
var xattrNamespaces = []string{"user.", "security.", "trusted."}

// What Linux allows of an extended attribute (XATTR_NAME_MAX, XATTR_SIZE_MAX).
const (
	maxXattrName  = 255
	maxXattrValue = 64 << 10
)

// checkInode checks what inodes of all versions have.
func (c *checker) checkInode(path string, i Inode) {
	if i.Links == 0 {
		c.problem(path, "links", "1 or more", 0)
	}
	if i.Mode > 0o177777 {
		c.problem(path, "mode", "16 bits", fmt.Sprintf("%#o", i.Mode))
	}
	if i.MTimeNsec >= 1e9 {
		c.problem(path, "mtime", "fewer than 1000000000 nanoseconds", fmt.Sprintf("%d nanoseconds", i.MTimeNsec))
	}
	c.checkOwner(path, i)
	if i.IsSymlink() {
		c.checkSymlink(path, i)
	}
	c.checkXattrs(path, i)
}

// noOwner is what Linux takes for no user and no group: it shows another.
const noOwner = 1<<32 - 1

func (c *checker) checkOwner(path string, i Inode) {
	if i.UID == noOwner || i.GID == noOwner {
		c.problem(path, "owner", fmt.Sprintf("numbers below %d", uint32(noOwner)), fmt.Sprintf("%d:%d", i.UID, i.GID))
	}
	if (i.UID != 0 || i.GID != 0) && c.tree.Superblock().Flags&FlagExplicitUIDGID == 0 {
		c.problem(path, "owner", "0:0: the superblock says that owners are not stored, and nydusd shows its own", fmt.Sprintf("%d:%d", i.UID, i.GID))
	}
}

func (c *checker) checkSymlink(path string, i Inode) {
	target, err := i.tree.format.readlink(i.node)
	if err == nil {
		err = checkTarget(target)
	}
	switch {
	case err != nil:
		c.unreadable(path, "target", err)
	case i.Size != int64(len(target)):
		c.problem(path, "size", len(target), i.Size)
	}
}

func (c *checker) checkXattrs(path string, i Inode) {
	xattrs, err := i.Xattrs()
	if err != nil {
		c.unreadable(path, "extended attributes", err)
		return
	}
	for _, name := range slices.Sorted(maps.Keys(xattrs)) {
		switch value := xattrs[name]; {
		case len(name) > maxXattrName:
			c.problem(path, "extended attributes", fmt.Sprintf("names of up to %d bytes", maxXattrName), fmt.Sprintf("one of %d", len(name)))
		case !knownXattr(name):
			c.problem(path, "extended attributes", "names in a known namespace", fmt.Sprintf("%q", name))
		case len(value) > maxXattrValue:
			c.problem(path, "xattr "+name, fmt.Sprintf("up to %d bytes", maxXattrValue), fmt.Sprintf("%d bytes", len(value)))
		}
	}
	if len(xattrs) > 0 && c.tree.Superblock().Flags&FlagHasXattr == 0 {
		c.problem(path, "extended attributes", "none: the superblock says that there are none, and nydusd shows none", len(xattrs))
	}
}

func knownXattr(name string) bool {
	if name == v6XattrPrefixes[2] || name == v6XattrPrefixes[3] {
		return true
	}
	for _, namespace := range xattrNamespaces {
		if len(name) > len(namespace) && strings.HasPrefix(name, namespace) {
			return true
		}
	}
	return false
}
