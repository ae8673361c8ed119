package consistency

import (
	"fmt"
	"slices"
)

// maxNames is how many names of a file a difference spells out.
const maxNames = 10

// links are the names of files that have several, by inode.
type links map[uint64][]string

func (l links) add(n *Node) {
	if !n.isDir() && n.Links > 1 {
		l[n.Inode] = append(l[n.Inode], n.Path)
	}
}

// of returns the names of a node's file, none if it has one only.
func (l links) of(n *Node) []string {
	if names := l[n.Inode]; n.Links > 1 && len(names) > 1 {
		return names
	}
	return nil
}

func (l links) sort() {
	for _, names := range l {
		slices.Sort(names)
	}
}

// compareLinks compares who is linked with whom, and where that is the same, the
// count of links.
func (c *comparison) compareLinks(pairs []pair, wantLinks, gotLinks links) {
	wantLinks.sort()
	gotLinks.sort()
	// Files of many names are compared once, not for each name.
	type inodes struct{ want, got uint64 }
	same := make(map[inodes]bool)
	for _, p := range pairs {
		want, got := wantLinks.of(p.want), gotLinks.of(p.got)
		if want == nil && got == nil {
			c.field(p, "links", p.want.Links == p.got.Links, fmt.Sprint(p.want.Links), fmt.Sprint(p.got.Links))
			continue
		}
		key := inodes{p.want.Inode, p.got.Inode}
		equal, known := same[key]
		if !known {
			equal = slices.Equal(want, got)
			same[key] = equal
		}
		if !equal {
			c.field(p, "hard links", false, spell(want), spell(got))
			continue
		}
		c.field(p, "links", p.want.Links == p.got.Links, fmt.Sprint(p.want.Links), fmt.Sprint(p.got.Links))
	}
}

func spell(names []string) string {
	if names == nil {
		return "none"
	}
	text := fmt.Sprintf("%q", names[:min(len(names), maxNames)])
	if more := len(names) - maxNames; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
