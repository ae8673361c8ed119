package blob

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

const (
	metaHeaderSize = 4096
	metaMagic      = 0xb10bb10b
	chunkInfoV1    = 16
	chunkInfoV2    = 24
	// maxChunks is the limit of the format (chunk indexes have 24 bits).
	maxChunks = 1 << 24
)

// A Meta is a blob's own table of chunks ("blob.meta"). nydusd locates the
// chunks of a v6 image by it, not by the bootstrap's chunk table, so both must
// say the same: otherwise a container would read other bytes than we do.
type Meta struct {
	chunks []metaChunk
}

// A metaChunk is where a chunk lies, in bytes.
type metaChunk struct {
	compressedOffset, uncompressedOffset uint64
	compressedSize, uncompressedSize     uint32
}

// HasMeta says whether a blob table entry locates a blob.meta of which this
// package reads the entries.
func HasMeta(b rafs.Blob) bool {
	return b.Meta.UncompressedSize != 0 && Supported(b) == nil
}

// ReadMeta reads blob.meta out of the blob, where the bootstrap's blob table
// says that it lies.
func ReadMeta(ctx context.Context, source Source, b rafs.Blob) (*Meta, error) {
	m := b.Meta
	if m.CompressedSize > MaxBootstrap || m.UncompressedSize > maxChunks*chunkInfoV2 || m.Offset > 1<<62 {
		return nil, fmt.Errorf("blob.meta of %d bytes, %d stored: %w", m.UncompressedSize, m.CompressedSize, rafs.ErrCorrupt)
	}
	if err := checkRange(int64(m.Offset), int64(m.CompressedSize)+metaHeaderSize, source.Size()); err != nil {
		return nil, fmt.Errorf("blob.meta: %w", err)
	}
	stored := make([]byte, int64(m.CompressedSize)+metaHeaderSize)
	if err := source.ReadRange(ctx, stored, int64(m.Offset)); err != nil {
		return nil, fmt.Errorf("read blob.meta: %w", err)
	}
	// The compressor is in the header too; nydusd goes by the blob table.
	data, err := decompress(m.Compressor, stored[:m.CompressedSize], int(m.UncompressedSize))
	if err != nil {
		return nil, fmt.Errorf("blob.meta: %w", err)
	}
	return parseMeta(data, stored[m.CompressedSize:], b)
}

// ParseMeta reads a blob.meta as bootstrap layers carry it and nydusd caches
// it: the uncompressed table, padded to 4096 bytes, and the header.
func ParseMeta(file []byte, b rafs.Blob) (*Meta, error) {
	if len(file) < metaHeaderSize || uint64(len(file)-metaHeaderSize) < b.Meta.UncompressedSize {
		return nil, fmt.Errorf("blob.meta of %d bytes, the table alone has %d: %w", len(file), b.Meta.UncompressedSize, rafs.ErrCorrupt)
	}
	return parseMeta(file[:b.Meta.UncompressedSize], file[len(file)-metaHeaderSize:], b)
}

func parseMeta(data, header []byte, b rafs.Blob) (*Meta, error) {
	le := binary.LittleEndian
	if le.Uint32(header) != metaMagic || le.Uint32(header[metaHeaderSize-4:]) != metaMagic {
		return nil, fmt.Errorf("blob.meta: no magic number in its header: %w", rafs.ErrCorrupt)
	}
	count := le.Uint32(header[8+4:])
	size := chunkInfoV1
	if b.Features&rafs.BlobChunkInfoV2 != 0 {
		size = chunkInfoV2
	}
	if count != b.ChunkCount || count > maxChunks || uint64(count)*uint64(size) > uint64(len(data)) {
		return nil, fmt.Errorf("blob.meta has %d chunks in %d bytes, the blob table says %d: %w", count, len(data), b.ChunkCount, rafs.ErrCorrupt)
	}
	m := &Meta{chunks: make([]metaChunk, count)}
	for i := range m.chunks {
		info := data[i*size:]
		uncompressed, compressed := le.Uint64(info), le.Uint64(info[8:])
		if size == chunkInfoV1 {
			m.chunks[i] = metaChunk{
				uncompressedOffset: uncompressed & 0xffffffff000,
				uncompressedSize:   uint32(uncompressed>>44|(uncompressed&0xf00)<<12) + 1,
				compressedOffset:   compressed & 0xffffffffff,
				compressedSize:     uint32(compressed>>44|(compressed&0xf0000000000)>>20) + 1,
			}
		} else {
			m.chunks[i] = metaChunk{
				uncompressedOffset: uncompressed & 0xffffffff << 12,
				uncompressedSize:   uint32(uncompressed>>32&0xffffff) + 1,
				compressedOffset:   compressed & 0xffffffffff,
				compressedSize:     uint32(compressed >> 40),
			}
		}
	}
	return m, nil
}

// Check compares what the bootstrap says of a chunk with blob.meta.
func (m *Meta) Check(c *rafs.Chunk) error {
	if int64(c.Index) >= int64(len(m.chunks)) {
		return fmt.Errorf("chunk %d is not among the %d of blob.meta: %w", c.Index, len(m.chunks), rafs.ErrCorrupt)
	}
	bootstrap := metaChunk{c.CompressedOffset, c.UncompressedOffset, c.CompressedSize, c.UncompressedSize}
	if got := m.chunks[c.Index]; got != bootstrap {
		return fmt.Errorf("chunk %d: the bootstrap's chunk table says bytes %d+%d (%d+%d uncompressed), blob.meta says %d+%d (%d+%d): a container would read other data than a scan: %w",
			c.Index, bootstrap.compressedOffset, bootstrap.compressedSize, bootstrap.uncompressedOffset, bootstrap.uncompressedSize,
			got.compressedOffset, got.compressedSize, got.uncompressedOffset, got.uncompressedSize, rafs.ErrCorrupt)
	}
	return nil
}
