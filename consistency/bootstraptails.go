package consistency

import (
	"context"
	"errors"

	"golang.org/x/sync/errgroup"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/blob"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// parallelTails is how many blobs' tails are read at once.
const parallelTails = 8

// A layerTail is what follows the chunks in a layer's blob, or why it could not
// be read.
type layerTail struct {
	tail *nydusmount.Tail // nil with err
	// digests are those of the blob's chunks as the blob gives them, 32 bytes
	// each in the order of blob.meta; nil where it does not.
	digests []byte
	err     error
}

// tails reads the tails of all layers, for all rules together.
func (i *Images) tails(ctx context.Context, bootstrap *nydusimage.Bootstrap) []layerTail {
	if i.layerTails == nil {
		return readTails(ctx, i.Target, bootstrap.Tree)
	}
	return i.layerTails()
}

func readTails(ctx context.Context, image *nydusimage.Image, merged *rafs.Tree) []layerTail {
	entries := make(map[string]*rafs.Blob)
	blobs := merged.Blobs()
	for n := range blobs {
		entries[blobs[n].ID] = &blobs[n]
	}
	tails := make([]layerTail, len(image.Layers))
	var group errgroup.Group
	group.SetLimit(parallelTails)
	budget := image.MetadataBudget()
	for n := range image.Layers {
		layer, t := &image.Layers[n], &tails[n]
		group.Go(func() error {
			if t.tail, t.err = nydusmount.ReadTail(ctx, image, layer, entries[layer.BlobID()], budget); t.err != nil || t.tail.TOC == nil {
				return nil
			}
			if t.err = budget.Take("the chunks' digests", t.tail.TOC.DigestsMemory()); t.err != nil {
				return nil
			}
			t.digests, t.err = t.tail.TOC.Digests(ctx, layer.Source)
			if errors.Is(t.err, blob.ErrNoTOC) {
				t.err = nil
			}
			return nil
		})
	}
	_ = group.Wait() // each tail has its own error
	return tails
}
