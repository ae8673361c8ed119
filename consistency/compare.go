package consistency

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Compare reports every difference, sorted by path and field. All content is
// read. What cannot be read is an error, never a difference.
func Compare(want, got Filesystem) ([]Difference, error) {
	c := comparison{compareContent: true}
	err := c.run(context.Background(), want, got)
	return c.differences, err
}

// A comparison compares two filesystems.
type comparison struct {
	compareContent bool
	differences    []Difference
	paths          int64 // of the second filesystem
	files          int64 // whose content was compared
	fileBytes      int64
}

// A pair is what the two filesystems have at a path.
type pair struct{ want, got *Node }

// run compares. Differences that were found before an error stand.
func (c *comparison) run(ctx context.Context, want, got Filesystem) error {
	defer func() { slices.SortStableFunc(c.differences, compareDifferences) }()
	expected := make(map[string]*Node)
	wantLinks, gotLinks := make(links), make(links)
	if err := want.Walk(func(n Node) error {
		expected[n.Path] = &n
		wantLinks.add(&n)
		return ctx.Err()
	}); err != nil {
		return err
	}
	var files, linked []pair
	if err := got.Walk(func(n Node) error {
		c.paths++
		gotLinks.add(&n)
		w := expected[n.Path]
		if w == nil {
			n.Open, n.metadata = nil, nil // nobody reads it, and there may be millions
			c.found(Difference{Path: n.Path, Field: "extra", Target: &n})
			return ctx.Err()
		}
		delete(expected, n.Path)
		both := pair{w, &n}
		c.compareFields(both)
		if !n.isDir() && !w.isDir() {
			linked = append(linked, both)
		}
		if c.compareContent && n.isRegular() && w.isRegular() && w.Size == n.Size {
			files = append(files, both)
		}
		return ctx.Err()
	}); err != nil {
		return err
	}
	for path, n := range expected {
		c.found(Difference{Path: path, Field: "missing", Source: n})
	}
	c.compareLinks(linked, wantLinks, gotLinks)
	return c.compareFiles(ctx, files)
}

func (c *comparison) found(d Difference) { c.differences = append(c.differences, d) }

func compareDifferences(a, b Difference) int {
	return cmp.Or(strings.Compare(a.Path, b.Path), strings.Compare(a.Field, b.Field))
}

// field notes a field that differs.
func (c *comparison) field(p pair, name string, same bool, want, got string) {
	if !same {
		c.found(Difference{Path: p.want.Path, Field: name, Want: want, Got: got, Source: p.want, Target: p.got})
	}
}

// compareFields compares all but content and hard links.
func (c *comparison) compareFields(p pair) {
	w, g := p.want, p.got
	number := func(name string, want, got uint64) {
		c.field(p, name, want == got, fmt.Sprint(want), fmt.Sprint(got))
	}
	c.field(p, "type", w.Mode&typeMask == g.Mode&typeMask, w.Type(), g.Type())
	if w.Mode&typeMask == g.Mode&typeMask {
		number("size", uint64(w.Size), uint64(g.Size))
		c.field(p, "rdev", w.Rdev == g.Rdev, device(w.Rdev), device(g.Rdev))
		c.field(p, "symlink", w.Target == g.Target, fmt.Sprintf("%q", w.Target), fmt.Sprintf("%q", g.Target))
	}
	wantMode, gotMode := w.Mode&^typeMask, g.Mode&^typeMask
	c.field(p, "mode", wantMode == gotMode, fmt.Sprintf("%#04o", wantMode), fmt.Sprintf("%#04o", gotMode))
	number("uid", uint64(w.UID), uint64(g.UID))
	number("gid", uint64(w.GID), uint64(g.GID))
	c.field(p, "mtime", w.NoMTime || w.MTime.Equal(g.MTime), w.MTime.UTC().String(), g.MTime.UTC().String())
	compareXattrs(w.Xattrs, g.Xattrs, func(field, want, got string) { c.field(p, field, false, want, got) })
}

func device(rdev uint64) string { return fmt.Sprintf("%d:%d", rdev>>32, uint32(rdev)) }

// compareXattrs calls differ for each extended attribute that is not the same, in the order
// of their names.
func compareXattrs(want, got map[string][]byte, differ func(field, want, got string)) {
	if maps.EqualFunc(want, got, bytes.Equal) {
		return
	}
	names := slices.AppendSeq(slices.Collect(maps.Keys(want)), maps.Keys(got))
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if w, g := xattrText(want, name), xattrText(got, name); w != g {
			differ(xattrField(name), w, g)
		}
	}
}
