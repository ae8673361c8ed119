package consistency

import (
	"context"
	"slices"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// checkLayers compares what the layers' trees give, applied in order, with the
// merged tree. All trees stand on their own.
func (c *bootstrapCheck) checkLayers(ctx context.Context, merged *rafs.Tree) {
	order, overlay, err := c.layersOfImage(ctx, merged)
	if err == nil {
		err = overlay.Contradictions(ctx, merged, func(found *nydusmount.Contradiction) error {
			c.differ(found.Path, "layers", "the same as in the image", found.Reason)
			return nil
		})
	}
	if err == nil {
		err = merged.WalkContext(ctx, func(path string, inode rafs.Inode) error {
			return c.compareAttributes(path, inode, overlay, order)
		})
	}
	if err != nil {
		c.failed("layers", err)
	}
}

// layersOfImage returns the layers of which the image is made, by index, and what
// their trees give: those of the manifest without the blobs that only hold data of
// others' files, if that shows that they are such (see [nydusmount.Stores]).
func (c *bootstrapCheck) layersOfImage(ctx context.Context, merged *rafs.Tree) ([]int, *nydusmount.Overlay, error) {
	stores := nydusmount.Stores(c.images.Target, merged, readable(c.tails))
	all := nydusmount.MergeOrder(c.images.Target)
	own := slices.DeleteFunc(slices.Clone(all), func(i int) bool { return stores[i] })
	if len(own) > 0 && len(own) < len(all) {
		overlay, err := c.overlay(ctx, own)
		if err != nil {
			return nil, nil, err
		}
		contradiction, err := overlay.Compare(ctx, merged)
		if err != nil || contradiction == nil {
			return own, overlay, err
		}
	}
	overlay, err := c.overlay(ctx, all)
	return all, overlay, err
}

// overlay applies the trees of layers.
func (c *bootstrapCheck) overlay(ctx context.Context, layers []int) (*nydusmount.Overlay, error) {
	m := &nydusmount.Mount{Image: c.images.Target}
	for _, i := range layers {
		m.Layers = append(m.Layers, &nydusmount.View{Tree: c.images.layerTree(c.tails, i)})
	}
	return m.Overlay(ctx)
}

// compareAttributes compares of an inode what the overlay does not look at: times
// and extended attributes. Today's converters lose the time of the root. order are
// the layers of the overlay.
func (c *bootstrapCheck) compareAttributes(path string, inode rafs.Inode, overlay *nydusmount.Overlay, order []int) error {
	at, ok := overlay.Layer(path)
	if !ok || path == "." {
		return nil
	}
	n := order[at]
	own, err := c.tails[n].tail.Tree.Lookup(path)
	if err != nil {
		return err
	}
	if got := inode.Modified(); !got.Equal(own.Modified()) {
		c.differ(path, layerName(n)+": mtime", own.Modified().UTC().String(), got.UTC().String())
	}
	want, err := own.Xattrs()
	if err != nil {
		return err
	}
	got, err := inode.Xattrs()
	if err != nil {
		return err
	}
	compareXattrs(want, got, func(field, want, got string) { c.differ(path, layerName(n)+": "+field, want, got) })
	return nil
}
