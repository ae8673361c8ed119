package blob

import (
	"context"
	"fmt"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// A TreeReader is one bootstrap's view of a [Reader]. It implements
// [rafs.ChunkLoader].
type TreeReader struct {
	ctx    context.Context
	reader *Reader
	blobs  []treeBlob
}

// A treeBlob is what a bootstrap says of one of its blobs.
type treeBlob struct {
	id         string
	features   rafs.BlobFeatures
	compressor rafs.Compressor
	codec      codec     // of chunks that are compressed
	secret     decrypter // nil without encryption
	cipher     int       // the secret's number in Reader.ciphers; 0 without
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
		tb := treeBlob{id: b.ID, features: b.Features, compressor: b.Compressor, digester: b.Digester, refused: Supported(b)}
		if self != "" && IsSelf(b) {
			tb.id = self
		}
		if tb.refused == nil {
			tb.codec, tb.refused = codecFor(b.Compressor)
		}
		if tb.refused == nil {
			tb.secret, tb.refused = newDecrypter(b)
		}
		if tb.secret != nil {
			tb.cipher = r.cipher(b.Secret)
		}
		t.blobs = append(t.blobs, tb)
	}
	return t
}

// IsSelf says whether an entry of a layer bootstrap's blob table stands for the
// blob in which that bootstrap lies: then its ID is a placeholder.
func IsSelf(b rafs.Blob) bool {
	return b.Features&rafs.BlobInlinedMeta != 0 && b.Features&rafs.BlobSeparate == 0
}

// BlobID returns the ID of the blob with the given index in the tree's blob
// table.
func (t *TreeReader) BlobID(index int) string { return t.blobs[index].id }

// NeedsMeta says whether only blob.meta locates chunks of a blob, so that they
// can be read after [Reader.SetMeta].
func NeedsMeta(b rafs.Blob) bool { return hasContexts(b) }

// Supported returns nil, or an error that names the feature for which the
// chunks of a blob cannot be read.
func Supported(b rafs.Blob) error {
	switch {
	case b.Features&rafs.BlobTarfs != 0:
		return fmt.Errorf("blob %s holds tarfs data, which only lies on the machine that made it: %w", b.ID, rafs.ErrUnsupported)
	case b.Features&rafs.BlobExternal != 0:
		return fmt.Errorf("blob %s holds data in an external backend, which is not read: %w", b.ID, rafs.ErrUnsupported)
	case b.Features&rafs.BlobZran != 0 && b.Cipher != rafs.CipherNone:
		return fmt.Errorf("blob %s refers to an OCI layer and is encrypted: %w", b.ID, rafs.ErrUnsupported)
	case b.Features&rafs.BlobEncrypted != 0 && b.Cipher == rafs.CipherNone:
		return fmt.Errorf("blob %s is encrypted, and the bootstrap does not say how: %w", b.ID, rafs.ErrCorrupt)
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
	t.reader.noteRead(e)
	if fresh {
		if err := t.reader.fetch(t.ctx, []*entry{e}); err != nil {
			return nil, err
		}
	}
	return e.wait(t.ctx)
}

// LoadChunks implements [rafs.ChunkLoader].
func (t *TreeReader) LoadChunks(chunks []rafs.Chunk) (release func(), err error) {
	return t.Load(t.ctx, chunks)
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

// Expect says that chunks will be loaded or read until done is called, so that units which
// several of them share are rather kept than others. What cannot be read fails then.
func (t *TreeReader) Expect(chunks []rafs.Chunk) (done func()) {
	var units []key
	for i := range chunks {
		c := &chunks[i]
		if c.Blob < 0 || c.Blob >= len(t.blobs) || t.blobs[c.Blob].features&(rafs.BlobBatch|rafs.BlobZran) == 0 {
			continue
		}
		if e, err := t.entry(c); err == nil && e.unit != nil && (len(units) == 0 || units[len(units)-1] != e.unit.key) {
			units = append(units, e.unit.key)
		}
	}
	t.reader.expect(units, 1)
	return func() { t.reader.expect(units, -1) }
}

// entry checks what the bootstrap says of a chunk and describes how to get it.
func (t *TreeReader) entry(c *rafs.Chunk) (entry, error) {
	if c.Blob < 0 || c.Blob >= len(t.blobs) {
		return entry{}, fmt.Errorf("chunk %d lies in blob %d of %d: %w", c.Index, c.Blob, len(t.blobs), rafs.ErrCorrupt)
	}
	b := &t.blobs[c.Blob]
	e, err := t.locate(b, c)
	if err != nil {
		return entry{}, fmt.Errorf("chunk %d of blob %s: %w", c.Index, b.id, err)
	}
	return e, nil
}

// locate describes how to get a chunk of a blob. The place comes from the
// bootstrap, but for chunks in units that others share.
func (t *TreeReader) locate(b *treeBlob, c *rafs.Chunk) (entry, error) {
	switch {
	case b.refused != nil:
		return entry{}, b.refused
	case c.Flags&rafs.ChunkEncrypted != 0 && b.secret == nil:
		return entry{}, fmt.Errorf("it is encrypted, the blob is not: %w", rafs.ErrCorrupt)
	case c.Flags&rafs.ChunkBatch != 0 && b.features&rafs.BlobBatch == 0:
		return entry{}, fmt.Errorf("it lies in a batch, the blob has none: %w", rafs.ErrCorrupt)
	case !c.HasDigest:
		return entry{}, fmt.Errorf("the bootstrap has no digest of it, so that it cannot be verified: %w", rafs.ErrUnsupported)
	}
	e := entry{key: key{blob: b.id, size: c.UncompressedSize, digest: c.Digest, digester: b.digester}, index: c.Index}
	if b.features&(rafs.BlobBatch|rafs.BlobZran) != 0 {
		meta := t.reader.meta(b.id)
		if meta == nil {
			return entry{}, fmt.Errorf("only blob.meta locates it, and that is not there: %w", ErrIncomplete)
		}
		u, within, err := meta.shared(c, b.compressor)
		if err != nil {
			return entry{}, err
		}
		if u != nil {
			e.unit = b.unitEntry(u)
			e.off, e.stored, e.within = e.unit.off, e.unit.stored, within
			e.compressor, e.cipher = e.unit.compressor, e.unit.cipher
			return e, nil
		}
	}
	own := unit{off: c.CompressedOffset, stored: c.CompressedSize, size: c.UncompressedSize, codec: plainCodec{}}
	if c.Flags&rafs.ChunkCompressed != 0 {
		own.codec, e.compressor = b.codec, b.compressor
		if b.compressor == rafs.CompressorGzip && b.features&rafs.BlobChunkInfoV2 == 0 {
			own.stored = t.reader.gzipStored(b.id, c)
		}
	}
	if err := own.check(); err != nil {
		return entry{}, err
	}
	if c.Flags&rafs.ChunkEncrypted != 0 {
		e.secret, e.cipher = b.secret, b.cipher
	}
	e.off, e.stored, e.codec = int64(own.off), own.stored, own.codec
	return e, nil
}

// unitEntry describes how to get a unit. In an encrypted blob all units are
// encrypted, whatever their chunks say.
func (b *treeBlob) unitEntry(u *unit) *entry {
	e := &entry{key: key{blob: b.id, off: int64(u.off), stored: u.stored, size: u.size, shared: true, compressor: b.compressor}, codec: u.codec}
	if b.features&rafs.BlobEncrypted != 0 {
		e.secret, e.cipher = b.secret, b.cipher
	}
	return e
}

// gzipStored bounds how many bytes of a legacy stargz layer a chunk takes: no
// more than there are.
func (r *Reader) gzipStored(id string, c *rafs.Chunk) uint32 {
	stored := gzipStored(c.UncompressedSize)
	if source, ok := r.sources[id]; ok {
		stored = min(stored, max(source.Size()-int64(c.CompressedOffset), 0))
	}
	return uint32(min(stored, maxStoredSize+1))
}
