package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

const (
	metaHeaderSize = 4096
	metaMagic      = 0xb10bb10b
	// maxChunks is the limit of the format (chunk indexes have 24 bits).
	maxChunks = 1 << 24
	// maxContexts bounds the memory that contexts take beside a table's entries.
	// Slices of a gzip stream are about 2 MiB, with a dictionary of 32 KiB each:
	// these are those of a layer of 16 GiB.
	maxContexts = 256 << 20
)

// A Meta is a blob's own table of chunks ("blob.meta"). nydusd locates the
// chunks of a v6 image by it, not by the bootstrap's chunk table, so both must
// say the same: otherwise a container would read other bytes than we do. Where
// chunks share what they are stored in (batches, zran), only this table locates
// them: contexts follow its entries.
type Meta struct {
	table     []byte // all of it, uncompressed
	entries   []byte // count of entrySize each
	entrySize int
	contexts  contexts
}

// Len is the number of chunks.
func (m *Meta) Len() int { return len(m.entries) / m.entrySize }

// Chunk returns the entry of chunk i, which must be at least 0 and below Len.
func (m *Meta) Chunk(i int) MetaChunk {
	info := m.entries[i*m.entrySize:][:m.entrySize]
	if m.entrySize == chunkInfoV1 {
		return decodeMetaChunkV1(info)
	}
	return decodeMetaChunkV2(info)
}

// HasMeta says whether a blob table entry locates a blob.meta of which this
// package reads the entries.
func HasMeta(b rafs.Blob) bool {
	return b.Meta.UncompressedSize != 0 && Supported(b) == nil
}

// MetaMemory is what [ReadMeta] takes, in bytes: as it is stored and decompressed. It
// is as the blob table says, which may be anything.
func MetaMemory(b rafs.Blob) uint64 {
	sum := b.Meta.CompressedSize + b.Meta.UncompressedSize
	if sum < b.Meta.CompressedSize {
		return math.MaxUint64
	}
	return sum
}

// MetaSize is the bytes that a blob's blob.meta takes, as stored.
func MetaSize(b rafs.Blob) int64 { return int64(b.Meta.CompressedSize) + metaHeaderSize }

// ReadMeta reads blob.meta, where the bootstrap's blob table says that it lies,
// out of the blob that holds it: the blob itself or, with
// [rafs.BlobSeparate], a blob of its own.
func ReadMeta(ctx context.Context, source Source, b rafs.Blob) (*Meta, error) {
	m := b.Meta
	if err := checkMetaSize(b); err != nil {
		return nil, err
	}
	if m.CompressedSize > MaxBootstrap || m.Offset > 1<<62 {
		return nil, fmt.Errorf("blob.meta of %d bytes, %d stored: %w", m.UncompressedSize, m.CompressedSize, rafs.ErrCorrupt)
	}
	if err := checkRange(int64(m.Offset), int64(m.CompressedSize)+metaHeaderSize, source.Size()); err != nil {
		return nil, fmt.Errorf("blob.meta: %w", err)
	}
	stored := make([]byte, int64(m.CompressedSize)+metaHeaderSize)
	if err := source.ReadRange(ctx, stored, int64(m.Offset)); err != nil {
		return nil, fmt.Errorf("read blob.meta: %w", err)
	}
	table, header := stored[:m.CompressedSize], stored[m.CompressedSize:]
	secret, err := newDecrypter(b)
	if err == nil && secret != nil {
		if table, err = secret.decrypt(table); err == nil {
			header, err = secret.decrypt(header)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("blob.meta: %w", err)
	}
	// The compressor is in the header too; nydusd goes by the blob table.
	if table, err = decompress(m.Compressor, table, int(m.UncompressedSize)); err != nil {
		return nil, fmt.Errorf("blob.meta: %w", err)
	}
	return parseMeta(table, header, b)
}

// MetaIsPlain says whether a blob.meta, as [ParseMeta] takes it, has a header that
// can be read. nydus-snapshotter puts those of encrypted blobs into the bootstrap
// layer as they are, encrypted, so that nydusd takes the blob's own.
func MetaIsPlain(file []byte) bool {
	return len(file) >= metaHeaderSize && hasMagic(file[len(file)-metaHeaderSize:])
}

func hasMagic(header []byte) bool {
	le := binary.LittleEndian
	return len(header) == metaHeaderSize && le.Uint32(header) == metaMagic && le.Uint32(header[metaHeaderSize-4:]) == metaMagic
}

// ParseMeta reads a blob.meta as bootstrap layers carry it and nydusd caches
// it: the uncompressed table, padded to 4096 bytes, and the header.
func ParseMeta(file []byte, b rafs.Blob) (*Meta, error) {
	if err := checkMetaSize(b); err != nil {
		return nil, err
	}
	if len(file) < metaHeaderSize || uint64(len(file)-metaHeaderSize) < b.Meta.UncompressedSize {
		return nil, fmt.Errorf("blob.meta of %d bytes, the table alone has %d: %w", len(file), b.Meta.UncompressedSize, rafs.ErrCorrupt)
	}
	return parseMeta(file[:b.Meta.UncompressedSize], file[len(file)-metaHeaderSize:], b)
}

// checkMetaSize checks the size that the blob table gives before memory is spent
// on it.
func checkMetaSize(b rafs.Blob) error {
	limit := uint64(maxChunks * chunkInfoV2)
	if hasContexts(b) {
		limit += maxContexts
	}
	if b.Meta.UncompressedSize > limit {
		return fmt.Errorf("blob.meta of %d bytes is over the limit of %d: %w", b.Meta.UncompressedSize, limit, rafs.ErrCorrupt)
	}
	return nil
}

func parseMeta(table, header []byte, b rafs.Blob) (*Meta, error) {
	le := binary.LittleEndian
	if !hasMagic(header) {
		return nil, fmt.Errorf("blob.meta: no magic number in its header: %w", rafs.ErrCorrupt)
	}
	count := le.Uint32(header[8+4:])
	size := chunkInfoV1
	if b.Features&rafs.BlobChunkInfoV2 != 0 {
		size = chunkInfoV2
	} else if hasContexts(b) {
		return nil, fmt.Errorf("blob.meta has contexts and entries of version 1: %w", rafs.ErrCorrupt)
	}
	if count != b.ChunkCount || count > maxChunks || uint64(count)*uint64(size) > uint64(len(table)) {
		return nil, fmt.Errorf("blob.meta has %d chunks in %d bytes, the blob table says %d: %w", count, len(table), b.ChunkCount, rafs.ErrCorrupt)
	}
	contexts, err := parseContexts(table, header, b)
	if err != nil {
		return nil, err
	}
	meta := &Meta{table: table, entries: table[:int(count)*size], entrySize: size, contexts: contexts}
	return meta, meta.checkEntries(b)
}

// checkEntries checks what makes the table the only one of its blob. nydusd finds
// a chunk by its number, for a FUSE mount, or by its place in the decompressed blob,
// by halving, for one of EROFS; and it keeps what it has decompressed at that place.
// So places must ascend and not overlap, or else a container could be given another
// chunk than the one that was asked for. Only blobs with the feature have chunks in
// batches or in gzip streams: the bootstrap does not locate these.
func (m *Meta) checkEntries(b rafs.Blob) error {
	var end uint64
	for i := range m.Len() {
		c := m.Chunk(i)
		switch {
		case c.UncompressedOffset < end:
			return fmt.Errorf("blob.meta puts chunk %d at %d of the decompressed blob, where the one before ends at %d: %w", i, c.UncompressedOffset, end, rafs.ErrCorrupt)
		case c.shared() && !hasContexts(b):
			return fmt.Errorf("blob.meta says that chunk %d shares what it is stored in, the blob has no such chunks: %w", i, rafs.ErrCorrupt)
		}
		end = c.UncompressedOffset + uint64(c.UncompressedSize)
	}
	return nil
}

// Check compares what the bootstrap says of a chunk with blob.meta. Where the
// chunk lies in what others share, the bootstrap does not say where that is.
func (m *Meta) Check(c *rafs.Chunk) error {
	got, err := m.entry(c.Index)
	if err != nil {
		return err
	}
	bootstrap := MetaChunk{
		CompressedOffset: c.CompressedOffset, CompressedSize: c.CompressedSize,
		UncompressedOffset: c.UncompressedOffset, UncompressedSize: c.UncompressedSize,
	}
	same := got.UncompressedOffset == bootstrap.UncompressedOffset && got.UncompressedSize == bootstrap.UncompressedSize
	if !got.shared() {
		same = same && got.CompressedOffset == bootstrap.CompressedOffset && got.CompressedSize == bootstrap.CompressedSize
	}
	if !same {
		return fmt.Errorf("chunk %d: the bootstrap's chunk table says bytes %d+%d (%d+%d uncompressed), blob.meta says %d+%d (%d+%d): a container would read other data than a scan: %w",
			c.Index, bootstrap.CompressedOffset, bootstrap.CompressedSize, bootstrap.UncompressedOffset, bootstrap.UncompressedSize,
			got.CompressedOffset, got.CompressedSize, got.UncompressedOffset, got.UncompressedSize, rafs.ErrCorrupt)
	}
	if got.shared() {
		return nil
	}
	for _, flag := range []struct {
		name      string
		bootstrap rafs.ChunkFlags
		meta      MetaFlags
	}{{"compressed", rafs.ChunkCompressed, MetaCompressed}, {"encrypted", rafs.ChunkEncrypted, MetaEncrypted}} {
		if (c.Flags&flag.bootstrap != 0) != (got.Flags&flag.meta != 0) {
			return fmt.Errorf("chunk %d: the bootstrap's chunk table and blob.meta contradict each other in whether it is %s: a container would read other data than a scan: %w",
				c.Index, flag.name, rafs.ErrCorrupt)
		}
	}
	return nil
}

// Digest is the SHA-256 of the table, uncompressed and without its header: that
// which the blob's table of contents has for it.
func (m *Meta) Digest() [32]byte { return sha256.Sum256(m.table) }

// Same compares two tables of one blob, contexts included: a container may read
// by either.
func (m *Meta) Same(other *Meta) bool {
	return m.entrySize == other.entrySize && bytes.Equal(m.entries, other.entries) &&
		m.contexts.count == other.contexts.count && bytes.Equal(m.contexts.data, other.contexts.data)
}

// entry is Chunk for an index that comes from a bootstrap.
func (m *Meta) entry(index uint32) (MetaChunk, error) {
	if int64(index) >= int64(m.Len()) {
		return MetaChunk{}, fmt.Errorf("chunk %d is not among the %d of blob.meta: %w", index, m.Len(), rafs.ErrCorrupt)
	}
	return m.Chunk(int(index)), nil
}
