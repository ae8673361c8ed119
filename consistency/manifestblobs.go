package consistency

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

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
	var group errgroup.Group
	group.SetLimit(parallelProbes)
	var mu sync.Mutex
	probed := make(map[v1.Hash]bool)
	for i := range c.images.Target.Layers {
		layer := &c.images.Target.Layers[i]
		if probed[layer.Digest] {
			continue
		}
		probed[layer.Digest] = true
		group.Go(func() error {
			err := blob.Probe(ctx, layer.Source)
			if err == nil {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			field := fmt.Sprintf("layers[%d]", i)
			switch {
			case errors.Is(err, blob.ErrMissing):
				c.differ(pathManifest, field, layer.Digest.String(), "missing: "+err.Error())
			case errors.Is(err, blob.ErrSize):
				c.differ(pathManifest, field+".size", strconv.FormatInt(layer.Size, 10), err.Error())
			default:
				c.failed(fmt.Sprintf("ask for layer %d, blob %s", i, layer.Digest), err)
			}
			return nil
		})
	}
	_ = group.Wait() // each failure is noted where it belongs
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
		index := -1
		for n := range target.Layers {
			if carries(&target.Layers[n], entry) {
				named[n] = true
				if index < 0 {
					index = n
				}
			}
		}
		if index < 0 {
			c.differ(pathManifest, field+".blob_id", "a layer of the manifest", entry.ID)
			continue
		}
		c.checkEntry(ctx, field, entry, &target.Layers[index])
	}
	for n, ok := range named {
		if !ok {
			c.note(pathManifest, "layers[%d]: no file of the image has data in blob %s", n, target.Layers[n].Digest)
		}
	}
}

// carries says whether a layer is the blob that an entry of the blob table names:
// by its own digest or, where it only indexes an OCI layer (zran), by that one's.
func carries(layer *nydusimage.Layer, entry *rafs.Blob) bool {
	if ref, ok := layer.Annotations[nydusimage.AnnotationRef]; ok && entry.Features&rafs.BlobSeparate != 0 {
		return ref == "sha256:"+entry.ID
	}
	return layer.BlobID() == entry.ID
}

// checkEntry compares sizes and digests of an entry of the blob table with its
// layer.
func (c *manifestCheck) checkEntry(ctx context.Context, field string, entry *rafs.Blob, layer *nydusimage.Layer) {
	size := uint64(layer.Size)
	if entry.Features&rafs.BlobSeparate != 0 {
		c.checkReference(field, entry, layer)
	} else if entry.CompressedSize > size {
		c.differ(pathManifest, field+".compressed_size", fmt.Sprintf("at most the layer's %d", size), fmt.Sprint(entry.CompressedSize))
	}
	if end := entry.Meta.Offset + entry.Meta.CompressedSize; entry.Meta.UncompressedSize > 0 && (end < entry.Meta.Offset || end > size) {
		c.differ(pathManifest, field+".ci_offset", fmt.Sprintf("blob.meta within the layer's %d bytes", size),
			fmt.Sprintf("%d bytes at %d", entry.Meta.CompressedSize, entry.Meta.Offset))
	}
	if entry.TOCSize == 0 && entry.TOCDigest == [32]byte{} {
		return // converters commonly leave both out
	}
	toc, err := blob.ReadTOC(ctx, layer.Source)
	switch {
	case errors.Is(err, blob.ErrNoTOC), errors.Is(err, rafs.ErrCorrupt):
		c.differ(pathManifest, field+".blob_toc_digest", fmt.Sprintf("%x", entry.TOCDigest), err.Error())
	case err != nil:
		c.failed(fmt.Sprintf("read the table of contents of blob %s", layer.Digest), err)
	default:
		if entry.TOCSize != 0 && int64(entry.TOCSize) != toc.Size {
			c.differ(pathManifest, field+".blob_toc_size", fmt.Sprint(toc.Size), fmt.Sprint(entry.TOCSize))
		}
		if entry.TOCDigest != [32]byte{} && entry.TOCDigest != toc.Digest {
			c.differ(pathManifest, field+".blob_toc_digest", fmt.Sprintf("%x", toc.Digest), fmt.Sprintf("%x", entry.TOCDigest))
		}
	}
}

// checkReference checks an entry whose data lies in a layer of the OCI image: it
// names the blob that indexes it, and the source has that layer.
func (c *manifestCheck) checkReference(field string, entry *rafs.Blob, layer *nydusimage.Layer) {
	if entry.Features&rafs.BlobEncrypted == 0 { // else these bytes are the key
		if got := fmt.Sprintf("%x", entry.MetaDigest); entry.MetaDigest != [32]byte{} && got != layer.BlobID() {
			c.differ(pathManifest, field+".blob_meta_digest", layer.BlobID(), got)
		}
		if entry.MetaSize != 0 && entry.MetaSize != uint64(layer.Size) {
			c.differ(pathManifest, field+".blob_meta_size", fmt.Sprint(layer.Size), fmt.Sprint(entry.MetaSize))
		}
	}
	source := c.images.Source
	if source == nil {
		return
	}
	for _, d := range source.Manifest.Layers {
		if strings.EqualFold(d.Digest.Hex, entry.ID) {
			if entry.CompressedSize != uint64(d.Size) {
				c.differ(pathManifest, field+".compressed_size", fmt.Sprint(d.Size), fmt.Sprint(entry.CompressedSize))
			}
			return
		}
	}
	c.differ(pathManifest, field+".blob_id", "a layer of the OCI image", entry.ID)
}
