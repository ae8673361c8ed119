package consistency

import (
	"fmt"
	"maps"
	"slices"
)

// A Field is one field of a node, named and spelled as in a [Difference].
type Field struct{ Name, Value string }

// Fields lists the fields that a node of its type has, but for its content.
func (n *Node) Fields() []Field {
	fields := []Field{{"type", n.Type()}}
	add := func(name, value string) { fields = append(fields, Field{name, value}) }
	switch n.Mode & typeMask {
	case typeRegular:
		add("size", fmt.Sprint(n.Size))
	case typeSymlink:
		add("size", fmt.Sprint(n.Size))
		add("symlink", fmt.Sprintf("%q", n.Target))
	case typeChar, typeBlock:
		add("rdev", device(n.Rdev))
	}
	add("mode", fmt.Sprintf("%#04o", n.Mode&^typeMask))
	add("uid", fmt.Sprint(n.UID))
	add("gid", fmt.Sprint(n.GID))
	if !n.NoMTime {
		add("mtime", n.MTime.UTC().String())
	}
	if !n.isDir() {
		add("links", fmt.Sprint(n.Links))
	}
	for _, name := range slices.Sorted(maps.Keys(n.Xattrs)) {
		add("xattr "+name, fmt.Sprintf("%q", n.Xattrs[name]))
	}
	return fields
}
