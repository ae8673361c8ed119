package consistency

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/blob"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// The names of the tables that locate and verify chunks, beside the bootstrap's.
const (
	tableBlob    = "blob.meta"
	tableLayer   = "blob.meta of the bootstrap layer"
	tableDigests = "blob.digest"
)

// A chunkTable is a blob.meta, and where it was found.
type chunkTable struct {
	name string
	meta *blob.Meta
}

// blobTables are the tables of one blob.
type blobTables struct {
	tables  []chunkTable
	digests []byte
}

// checkTables compares what the bootstraps say of chunks with what the blobs and
// the bootstrap layer say, entry by entry: nydusd follows the latter.
func (c *bootstrapCheck) checkTables(ctx context.Context, bootstrap *nydusimage.Bootstrap) {
	c.noteForeignTables(bootstrap.Metas)
	byID := make(map[string]*blobTables)
	own := make([]*blobTables, len(c.tails))
	for i := range c.tails {
		if c.tails[i].err == nil {
			own[i] = c.layerTables(ctx, i, bootstrap.Metas)
			byID[c.images.Target.Layers[i].BlobID()] = own[i]
		}
	}
	c.compareTables(ctx, "", bootstrap.Tree, func(b *rafs.Blob) *blobTables { return byID[b.ID] })
	for i := range c.tails {
		if own[i] == nil || c.tails[i].tail.Tree == nil {
			continue
		}
		c.compareTables(ctx, layerName(i)+": ", c.tails[i].tail.Tree, func(b *rafs.Blob) *blobTables {
			if blob.IsSelf(*b) {
				return own[i]
			}
			return byID[b.ID]
		})
	}
}

// noteForeignTables notes tables in the bootstrap layer that are of no layer.
func (c *bootstrapCheck) noteForeignTables(inLayer map[string][]byte) {
	known := make(map[string]bool)
	for i := range c.images.Target.Layers {
		for _, id := range c.images.Target.Layers[i].MetaIDs() {
			known[id] = true
		}
	}
	for _, id := range slices.Sorted(maps.Keys(inLayer)) {
		if !known[id] {
			c.note("the bootstrap layer has a blob.meta for %s, which is no layer of the manifest: it was not compared", id)
		}
	}
}

// layerTables returns the tables of a layer's blob, after they were compared with
// each other.
func (c *bootstrapCheck) layerTables(ctx context.Context, i int, inLayer map[string][]byte) *blobTables {
	layer, tail := &c.images.Target.Layers[i], c.tails[i].tail
	t := &blobTables{digests: tail.Digests}
	if tail.Table == nil || !blob.HasMeta(*tail.Table) {
		return t
	}
	meta := tail.Meta
	if meta == nil { // no file of the image uses the blob
		var err error
		if meta, err = blob.ReadMeta(ctx, layer.Source, *tail.Table); err != nil {
			c.failed(layerName(i)+": "+tableBlob, err)
			return t
		}
	}
	t.tables = append(t.tables, chunkTable{tableBlob, meta})
	c.checkMeta(ctx, layerName(i), layer, tail.Table, meta)
	for _, id := range layer.MetaIDs() {
		file, ok := inLayer[id]
		switch {
		case !ok:
			continue
		case tail.Table.Cipher != rafs.CipherNone && !blob.MetaIsPlain(file):
			c.note("%s: the %s is encrypted and was not compared", layerName(i), tableLayer)
			continue
		}
		copied, err := blob.ParseMeta(file, *tail.Table)
		if err != nil {
			c.failed(layerName(i)+": "+tableLayer, err)
			continue
		}
		t.tables = append(t.tables, chunkTable{tableLayer, copied})
		c.compareMetas(ctx, layerName(i), meta, copied)
	}
	return t
}

// entriesBetween is how many entries of a table, which may have 2²⁴, are looked at
// between looks at the context.
const entriesBetween = 4096

// checkMeta checks that what a blob.meta locates lies in the blob, and that there
// is a digest for each chunk.
func (c *bootstrapCheck) checkMeta(ctx context.Context, name string, layer *nydusimage.Layer, table *rafs.Blob, meta *blob.Meta) {
	size := uint64(layer.Source.Size())
	if table.Features&rafs.BlobSeparate != 0 {
		size = table.CompressedSize // it is about another blob
	}
	for n := range meta.Len() {
		if n%entriesBetween == 0 && ctx.Err() != nil {
			return
		}
		entry := meta.Chunk(n)
		if end := entry.CompressedOffset + uint64(entry.CompressedSize); end > size {
			c.differ(pathBootstrap, fmt.Sprintf("%s: chunk %d in %s", name, n, tableBlob),
				fmt.Sprintf("within the %d bytes of the blob", size), fmt.Sprintf("%d bytes at %d", entry.CompressedSize, entry.CompressedOffset))
		}
		if end := entry.UncompressedOffset + uint64(entry.UncompressedSize); end > table.UncompressedSize {
			c.differ(pathBootstrap, fmt.Sprintf("%s: chunk %d in %s", name, n, tableBlob),
				fmt.Sprintf("within the %d uncompressed bytes of the blob", table.UncompressedSize),
				fmt.Sprintf("%d bytes at %d", entry.UncompressedSize, entry.UncompressedOffset))
		}
	}
}

// compareMetas compares the blob's table with its copy in the bootstrap layer.
func (c *bootstrapCheck) compareMetas(ctx context.Context, name string, inBlob, copied *blob.Meta) {
	if inBlob.Same(copied) {
		return
	}
	if a, b := inBlob.Len(), copied.Len(); a != b {
		c.differ(pathBootstrap, fmt.Sprintf("%s: %s", name, tableLayer), fmt.Sprintf("%d chunks", a), fmt.Sprintf("%d chunks", b))
	}
	same := true
	for n := range min(inBlob.Len(), copied.Len()) {
		if n%entriesBetween == 0 && ctx.Err() != nil {
			return
		}
		if a, b := inBlob.Chunk(n), copied.Chunk(n); a != b {
			same = false
			c.differ(pathBootstrap, fmt.Sprintf("%s: chunk %d in %s", name, n, tableLayer), entryText(a), entryText(b))
		}
	}
	if same {
		c.differ(pathBootstrap, fmt.Sprintf("%s: contexts in %s", name, tableLayer), "those in the blob", "others")
	}
}

func entryText(e blob.MetaChunk) string {
	text := fmt.Sprintf("%d bytes at %d, %d at %d uncompressed, flags %#x", e.CompressedSize, e.CompressedOffset, e.UncompressedSize, e.UncompressedOffset, e.Flags)
	if e.Flags&(blob.MetaBatch|blob.MetaZran) != 0 {
		text += fmt.Sprintf(", at %d in context %d", e.Within, e.Context)
	}
	return text
}

// compareTables compares the chunks of a tree's files with the tables of their
// blobs.
func (c *bootstrapCheck) compareTables(ctx context.Context, prefix string, tree *rafs.Tree, tablesOf func(*rafs.Blob) *blobTables) {
	blobs := tree.Blobs()
	tables := make([]*blobTables, len(blobs))
	for i := range blobs {
		tables[i] = tablesOf(&blobs[i])
	}
	compared := make(map[uint64]bool) // inodes with several names
	// What keeps a part of the tree from being walked is reported by checkTree.
	_ = tree.WalkContext(ctx, func(path string, inode rafs.Inode) error {
		if !inode.IsRegular() || compared[inode.Number] {
			return nil
		}
		if inode.Links > 1 {
			compared[inode.Number] = true
		}
		chunks, err := inode.Chunks()
		if err != nil {
			return nil
		}
		for k := range chunks {
			if t := tables[chunks[k].Blob]; t != nil {
				c.compareChunk(path, fmt.Sprintf("%schunk %d", prefix, k), &chunks[k], t)
			}
		}
		return nil
	})
}

func (c *bootstrapCheck) compareChunk(path, field string, chunk *rafs.Chunk, t *blobTables) {
	for _, table := range t.tables {
		if int64(chunk.Index) >= int64(table.meta.Len()) {
			c.differ(path, field+" in "+table.name, fmt.Sprintf("number %d", chunk.Index), fmt.Sprintf("%d chunks", table.meta.Len()))
			continue
		}
		entry := table.meta.Chunk(int(chunk.Index))
		same := entry.UncompressedOffset == chunk.UncompressedOffset && entry.UncompressedSize == chunk.UncompressedSize
		// Where the bootstrap has no record of a chunk, it does not say where it is
		// stored; nor where the chunk shares what it is stored in.
		if chunk.HasDigest && entry.Flags&(blob.MetaBatch|blob.MetaZran) == 0 {
			same = same && entry.CompressedOffset == chunk.CompressedOffset && entry.CompressedSize == chunk.CompressedSize &&
				(entry.Flags&blob.MetaCompressed != 0) == (chunk.Flags&rafs.ChunkCompressed != 0)
		}
		if !same {
			c.differ(path, field+" in "+table.name,
				fmt.Sprintf("%d bytes at %d, %d at %d uncompressed, chunk flags %#x", chunk.CompressedSize, chunk.CompressedOffset,
					chunk.UncompressedSize, chunk.UncompressedOffset, chunk.Flags), entryText(entry))
		}
	}
	if t.digests == nil || !chunk.HasDigest {
		return
	}
	if at := 32 * uint64(chunk.Index); at+32 > uint64(len(t.digests)) {
		c.differ(path, field+" in "+tableDigests, fmt.Sprintf("number %d", chunk.Index), fmt.Sprintf("%d chunks", len(t.digests)/32))
	} else if got := t.digests[at:][:32]; !bytes.Equal(got, chunk.Digest[:]) {
		c.differ(path, field+" in "+tableDigests, fmt.Sprintf("%x", chunk.Digest), fmt.Sprintf("%x", got))
	}
}
