package consistency

import (
	"fmt"
	"strings"
)

// A lowerLink is a hard link to a file that the layer itself does not have.
type lowerLink struct {
	node   *ociNode // of the link
	path   []string // the link's, for errors
	target []string
	inode  *ociInode // what the entry says of the file
}

// link makes node one more name of another file, for which the entry's owner,
// mode, time and attributes count from then on.
func (l *ociLayer) link(node *ociNode, path []string, target string) error {
	names, err := splitName(target)
	if err != nil {
		return fmt.Errorf("hard link to %q: %w", target, err)
	}
	link := lowerLink{node, path, names, node.inode}
	node.inode = nil
	found, err := lookup(l.root, names)
	switch {
	case err != nil:
		return fmt.Errorf("hard link to %q: %w", target, err)
	case found == nil:
		l.links = append(l.links, link)
		return nil
	}
	return link.to(found)
}

// to makes the link one to what was found.
func (l *lowerLink) to(found *ociNode) error {
	if found == nil || found.inode == nil {
		return fmt.Errorf("hard link to %q, which is not there", strings.Join(l.target, "/"))
	}
	if found.isDir() {
		return fmt.Errorf("hard link to %q, which is a directory", strings.Join(l.target, "/"))
	}
	l.node.inode = found.inode
	return found.inode.relink(l.inode)
}

// linkLower finds the files of lower layers to which the layer has hard links.
func (t *ociTree) linkLower(l *ociLayer) error {
	for _, link := range l.links {
		found, err := lookup(t.root, link.target)
		if err == nil {
			err = link.to(found)
		}
		if err != nil {
			return fmt.Errorf("%q: %w", strings.Join(link.path, "/"), err)
		}
	}
	return nil
}
