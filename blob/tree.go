package blob

import (
	"context"
	"fmt"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// A TreeReader is one bootstrap's view of a [Reader]. It implements
// [rafs.ChunkReader].
type TreeReader struct {
	ctx    context.Context
	reader *Reader
	blobs  []treeBlob
}

// A treeBlob is what a bootstrap says of one of its blobs.
type treeBlob struct {
	id         string
	compressor rafs.Compressor
	digester   rafs.Digester
	refused    error
}

// Tree returns the view of a tree whose blob table is given. Reads end with
// ctx. self is the ID of the blob in which the bootstrap was found, "" for a
// merged one: a layer bootstrap cannot name the blob that it lies in. A blob
// that this package cannot read is refused, by the name of the feature, when a
// chunk of it is asked for.
func (r *Reader) Tree(ctx context.Context, blobs []rafs.Blob, self string) *TreeReader {
	t := &TreeReader{ctx: ctx, reader: r}
	for _, b := range blobs {
		id := b.ID
		if self != "" && b.Features&rafs.BlobInlinedMeta != 0 && b.Features&rafs.BlobSeparate == 0 {
			id = self
		}
		t.blobs = append(t.blobs, treeBlob{id: id, compressor: b.Compressor, digester: b.Digester, refused: Supported(b)})
	}
	return t
}

// BlobID returns the ID of the blob with the given index in the tree's blob
// table.
func (t *TreeReader) BlobID(index int) string { return t.blobs[index].id }

// Supported returns nil, or an error that names the feature for which the
// chunks of a blob cannot be read.
func Supported(b rafs.Blob) error {
	for _, refused := range []struct {
		feature rafs.BlobFeatures
		name    string
	}{
		{rafs.BlobZran, "zran data (OCI-ref images)"},
		{rafs.BlobBatch, "batch chunks"},
		{rafs.BlobEncrypted, "encrypted data"},
		{rafs.BlobTarfs, "tarfs data"},
		{rafs.BlobExternal, "data in an external backend"},
	} {
		if b.Features&refused.feature != 0 {
			return fmt.Errorf("blob %s holds %s, which is not read yet: %w", b.ID, refused.name, rafs.ErrUnsupported)
		}
	}
	if b.Cipher != 0 {
		return fmt.Errorf("blob %s is encrypted, which is not read yet: %w", b.ID, rafs.ErrUnsupported)
	}
	if b.Compressor == rafs.CompressorGzip {
		return fmt.Errorf("blob %s holds gzip chunks (stargz), which are not read yet: %w", b.ID, rafs.ErrUnsupported)
	}
	return nil
}

// ReadChunk implements [rafs.ChunkReader].
func (t *TreeReader) ReadChunk(c *rafs.Chunk) ([]byte, error) {
	want, err := t.entry(c)
	if err != nil {
		return nil, err
	}
	e, fresh := t.reader.pin(want)
	defer t.reader.unpin(e)
	if fresh {
		if err := t.reader.fetch(t.ctx, []*entry{e}); err != nil {
			return nil, err
		}
	}
	return e.wait(t.ctx)
}

// Load brings chunks into memory, fetched in few requests, and keeps them
// there until release is called; release must be called also after an error.
func (t *TreeReader) Load(ctx context.Context, chunks []rafs.Chunk) (release func(), err error) {
	wanted := make([]entry, len(chunks))
	for i := range chunks {
		if wanted[i], err = t.entry(&chunks[i]); err != nil {
			return func() {}, err
		}
	}
	var pinned []*entry
	release = func() {
		for _, e := range pinned {
			t.reader.unpin(e)
		}
		pinned = nil
	}
	fresh := make(map[string][]*entry)
	for _, want := range wanted {
		e, first := t.reader.pin(want)
		pinned = append(pinned, e)
		if first {
			fresh[e.blob] = append(fresh[e.blob], e)
		}
	}
	results := make(chan error, len(fresh))
	for _, entries := range fresh {
		go func() { results <- t.reader.fetch(ctx, entries) }()
	}
	for range fresh {
		if failed := <-results; failed != nil && err == nil {
			err = failed
		}
	}
	if err != nil {
		return release, err
	}
	for _, e := range pinned {
		if _, err := e.wait(ctx); err != nil {
			return release, err
		}
	}
	return release, nil
}

// entry checks what the bootstrap says of a chunk and describes how to get it.
func (t *TreeReader) entry(c *rafs.Chunk) (entry, error) {
	if c.Blob < 0 || c.Blob >= len(t.blobs) {
		return entry{}, fmt.Errorf("chunk %d lies in blob %d of %d: %w", c.Index, c.Blob, len(t.blobs), rafs.ErrCorrupt)
	}
	b := &t.blobs[c.Blob]
	switch {
	case b.refused != nil:
		return entry{}, b.refused
	case c.Flags&rafs.ChunkEncrypted != 0:
		return entry{}, fmt.Errorf("chunk %d of blob %s is encrypted, which is not read yet: %w", c.Index, b.id, rafs.ErrUnsupported)
	case c.Flags&rafs.ChunkBatch != 0:
		return entry{}, fmt.Errorf("chunk %d of blob %s is a batch chunk, which is not read yet: %w", c.Index, b.id, rafs.ErrUnsupported)
	case !c.HasDigest:
		return entry{}, fmt.Errorf("chunk %d of blob %s has no digest in the bootstrap, which is not read yet: %w", c.Index, b.id, rafs.ErrUnsupported)
	case c.UncompressedSize > maxChunkSize || c.CompressedSize > maxChunkSize+maxChunkSize/8:
		return entry{}, fmt.Errorf("chunk %d of blob %s: %d bytes, %d compressed, are over the limit of %d: %w",
			c.Index, b.id, c.UncompressedSize, c.CompressedSize, maxChunkSize, rafs.ErrCorrupt)
	case c.CompressedOffset > 1<<62:
		return entry{}, fmt.Errorf("chunk %d of blob %s at offset %d: %w", c.Index, b.id, c.CompressedOffset, rafs.ErrCorrupt)
	}
	return entry{
		key: key{
			blob: b.id, off: int64(c.CompressedOffset), stored: c.CompressedSize,
			size: c.UncompressedSize, digest: c.Digest,
		},
		raw:        c.Flags&rafs.ChunkCompressed == 0,
		index:      c.Index,
		compressor: b.compressor,
		digester:   b.digester,
	}, nil
}
