package consistency

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
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
		add(xattrField(name), xattrText(n.Xattrs, name))
	}
	return fields
}

// maxXattrText is how many bytes of an extended attribute's value are shown. Labels and
// capabilities have fewer; a crafted image can have 64 KiB under each of its names.
const maxXattrText = 256

// xattrText is the value of an extended attribute, or "none". A long one is cut, and told
// from others by its digest.
func xattrText(xattrs map[string][]byte, name string) string {
	value, ok := xattrs[name]
	switch {
	case !ok:
		return "none"
	case len(value) > maxXattrText:
		return fmt.Sprintf("%q… (%d bytes, sha256:%x)", value[:maxXattrText], len(value), sha256.Sum256(value))
	}
	return fmt.Sprintf("%q", value)
}

// xattrField is the name of an extended attribute as a field. A name is any bytes: those
// that are no Unicode are spelled out, or JSON would make one name of several.
func xattrField(name string) string {
	var field strings.Builder
	field.WriteString("xattr ")
	for i, r := range name {
		if r == utf8.RuneError && !strings.HasPrefix(name[i:], string(utf8.RuneError)) {
			fmt.Fprintf(&field, `\x%02x`, name[i])
		} else {
			field.WriteRune(r)
		}
	}
	return field.String()
}
