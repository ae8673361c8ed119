package consistency

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"

	"golang.org/x/sync/errgroup"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/blob"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// parallelProbes is how many blobs are asked for at once.
const parallelProbes = 8

// checkPresence asks for the first byte of each data blob. That the config and
// the bootstrap layer are there shows when they are read.
func (c *manifestCheck) checkPresence(ctx context.Context) {
	target := c.images.Target
	answers := make([]error, len(target.Layers))
	probed := make(map[v1.Hash]bool)
	var group errgroup.Group
	group.SetLimit(parallelProbes)
	for i := range target.Layers {
		layer := &target.Layers[i]
		if probed[layer.Digest] {
			continue
		}
		probed[layer.Digest] = true
		group.Go(func() error {
			answers[i] = blob.Probe(ctx, layer.Source)
			return nil
		})
	}
	_ = group.Wait() // the answers are looked at below
	for i, err := range answers {
		c.present(fmt.Sprintf("layers[%d]", i), target.Layers[i].Descriptor, err)
	}
}

// present takes the answer to the question whether a blob is there.
func (c *manifestCheck) present(field string, d v1.Descriptor, err error) {
	switch {
	case err == nil:
	case !c.images.isFault(err):
		c.failed(fmt.Sprintf("ask for blob %s", d.Digest), err)
	case errors.Is(err, blob.ErrMissing):
		c.differ(pathManifest, field, d.Digest.String(), "missing: "+err.Error())
	case errors.Is(err, blob.ErrSize):
		c.differ(pathManifest, field+".size", strconv.FormatInt(d.Size, 10), err.Error())
	default:
		c.failed(fmt.Sprintf("ask for blob %s", d.Digest), err)
	}
}

// checkBlobTable compares the bootstrap's blob table with the manifest's layers,
// in both directions.
func (c *manifestCheck) checkBlobTable(ctx context.Context, b *nydusimage.Bootstrap) {
	target := c.images.Target
	table := b.Tree.Blobs()
	if len(target.Layers) == 0 && len(table) > 0 || b.Backend != nil {
		c.note(pathManifest, "the data lies in a backend outside of the registry: the manifest does not vouch for it")
		return
	}
	named := make([]bool, len(target.Layers))
	for i := range table {
		entry, field := &table[i], fmt.Sprintf("blob table[%d]", i)
		if entry.Features&rafs.BlobExternal != 0 {
			c.note(pathManifest, "%s: the data lies in a backend outside of the registry", field)
			continue
		}
		carries := func(l nydusimage.Layer) bool { return l.BlobID() == entry.ID }
		index := slices.IndexFunc(target.Layers, carries)
		if index < 0 {
			c.differ(pathManifest, field+".blob_id", "a layer of the manifest", entry.ID)
			continue
		}
		for n := range target.Layers { // layers of the same content have one blob
			named[n] = named[n] || carries(target.Layers[n])
		}
		c.checkEntry(ctx, field, entry, &target.Layers[index])
	}
	for n, ok := range named {
		if !ok {
			c.note(pathManifest, "layers[%d]: no file of the image has data in blob %s", n, target.Layers[n].Digest)
		}
	}
}

// checkEntry compares sizes and digests of an entry of the blob table with its
// layer.
func (c *manifestCheck) checkEntry(ctx context.Context, field string, entry *rafs.Blob, layer *nydusimage.Layer) {
	size := uint64(layer.Size)
	if layer.Ref != (v1.Hash{}) {
		c.checkReference(ctx, field, entry, layer)
	} else if entry.CompressedSize > size {
		c.differ(pathManifest, field+".compressed_size", fmt.Sprintf("at most the layer's %d", size), fmt.Sprint(entry.CompressedSize))
	}
	if end := entry.Meta.Offset + entry.Meta.CompressedSize; entry.Meta.UncompressedSize > 0 && (end < entry.Meta.Offset || end > size) {
		c.differ(pathManifest, field+".ci_offset", fmt.Sprintf("blob.meta within the layer's %d bytes", size),
			fmt.Sprintf("%d bytes at %d", entry.Meta.CompressedSize, entry.Meta.Offset))
	}
	if entry.TOCSize != 0 || entry.TOCDigest != [32]byte{} { // converters commonly leave both out
		c.checkTOC(ctx, field, entry, layer)
	}
}

// checkTOC compares an entry with the table of contents in the blob's tail.
func (c *manifestCheck) checkTOC(ctx context.Context, field string, entry *rafs.Blob, layer *nydusimage.Layer) {
	toc, err := blob.ReadTOC(ctx, layer.Source)
	switch {
	case errors.Is(err, blob.ErrMissing), errors.Is(err, blob.ErrSize): // which checkPresence reports
	case errors.Is(err, blob.ErrNoTOC), errors.Is(err, rafs.ErrCorrupt):
		c.differ(pathManifest, field+".blob_toc_digest", fmt.Sprintf("%x", entry.TOCDigest), err.Error())
	case err != nil:
		c.failed(fmt.Sprintf("read the table of contents of blob %s", layer.Digest), err)
	default:
		if entry.TOCSize != 0 && int64(entry.TOCSize) != toc.Size {
			c.differ(pathManifest, field+".blob_toc_size", fmt.Sprint(toc.Size), fmt.Sprint(entry.TOCSize))
		}
		if entry.TOCDigest != [32]byte{} && !toc.Is(entry.TOCDigest) {
			c.differ(pathManifest, field+".blob_toc_digest", fmt.Sprintf("%x", toc.Digest), fmt.Sprintf("%x", entry.TOCDigest))
		}
	}
}

// checkReference checks an entry whose data lies in a layer of the OCI image: it
// names the blob that indexes that layer, the repository has it, and so has the
// source.
func (c *manifestCheck) checkReference(ctx context.Context, field string, entry *rafs.Blob, layer *nydusimage.Layer) {
	if got := fmt.Sprintf("%x", entry.MetaDigest); entry.MetaDigest != [32]byte{} && got != layer.Digest.Hex {
		c.differ(pathManifest, field+".blob_meta_digest", layer.Digest.Hex, got)
	}
	if entry.MetaSize != 0 && entry.MetaSize != uint64(layer.Size) {
		c.differ(pathManifest, field+".blob_meta_size", fmt.Sprint(layer.Size), fmt.Sprint(entry.MetaSize))
	}
	d := v1.Descriptor{Digest: layer.Ref, Size: int64(min(entry.CompressedSize, math.MaxInt64))}
	data, err := c.images.Target.Data(layer, d.Size)
	if err == nil {
		err = blob.Probe(ctx, data)
	}
	c.present(field+".blob_id", d, err)
	if source := c.images.Source; source != nil && !slices.ContainsFunc(source.Manifest.Layers, func(l v1.Descriptor) bool { return l.Digest == layer.Ref }) {
		c.differ(pathManifest, field+".blob_id", "a layer of the OCI image", entry.ID)
	}
}
