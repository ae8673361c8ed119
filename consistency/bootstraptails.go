package consistency

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// parallelTails is how many blobs' tails are read at once.
const parallelTails = 8

// A layerTail is what follows the chunks in a layer's blob, or why it could not
// be read.
type layerTail struct {
	tail *nydusmount.Tail // nil with err; with its digests
	err  error
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
			t.tail, t.err = nydusmount.ReadTail(ctx, image, layer, entries[layer.BlobID()], true, budget)
			return nil
		})
	}
	_ = group.Wait() // each tail has its own error
	return tails
}

// readable returns the tails that could be read, as nydusmount takes them.
func readable(tails []layerTail) []*nydusmount.Tail {
	out := make([]*nydusmount.Tail, len(tails))
	for i := range tails {
		if tails[i].err == nil {
			out[i] = tails[i].tail
		}
	}
	return out
}

// tree gives the merged tree with its chunks' digests: where the bootstrap has none,
// with those that the blobs carry. unvouched says for how many blobs the manifest
// does not vouch for these.
func (i *Images) tree(ctx context.Context, bootstrap *nydusimage.Bootstrap) (tree *rafs.Tree, unvouched int, err error) {
	if !bootstrap.Tree.LacksChunkTable() {
		return bootstrap.Tree, 0, nil
	}
	all := i.tails(ctx, bootstrap)
	for n := range all {
		if all[n].err != nil {
			return nil, 0, fmt.Errorf("%s: %w", layerName(n), all[n].err)
		}
	}
	tails := readable(all)
	unvouched, err = nydusmount.UnvouchedBlobs(i.Target, bootstrap.Tree, tails)
	return nydusmount.WithChunks(i.Target, bootstrap.Tree, tails, nil), unvouched, err
}

// layerTree is the tree of a layer, likewise; its tail was read and carries one.
func (i *Images) layerTree(tails []layerTail, n int) *rafs.Tree {
	return nydusmount.WithChunks(i.Target, tails[n].tail.Tree, readable(tails), tails[n].tail)
}
