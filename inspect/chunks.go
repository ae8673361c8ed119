package inspect

import (
	"context"
	"encoding/hex"
	"fmt"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/blob"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// A Chunk is where a piece of a file lies. Offsets and sizes are in bytes.
type Chunk struct {
	BlobIndex int    `json:"blob_index"` // in the blob table
	BlobID    string `json:"blob_id"`
	Index     uint32 `json:"index"` // in the blob's own table of chunks
	// FileOffset is there for a chunk of one file.
	FileOffset *int64 `json:"file_offset,omitempty"`
	// CompressedOffset and CompressedSize are missing where only blob.meta, which
	// has not been fetched, locates the chunk. In a batch they are the batch's
	// offset, and 0.
	CompressedOffset   *uint64 `json:"compressed_offset,omitempty"`
	CompressedSize     *uint32 `json:"compressed_size,omitempty"`
	UncompressedOffset uint64  `json:"uncompressed_offset"`
	UncompressedSize   uint32  `json:"uncompressed_size"`
	// Compressed, Encrypted and Batch are the chunk's flags.
	Compressed bool `json:"compressed"`
	Encrypted  bool `json:"encrypted,omitempty"`
	Batch      bool `json:"batch,omitempty"`
	// Digest is that of the uncompressed bytes, "blake3:" or "sha256:" and 64
	// digits; missing where the bootstrap has none.
	Digest string `json:"digest,omitempty"`
	CRC32C string `json:"crc32c,omitempty"` // 8 digits
}

// newChunk describes a chunk of a layer's tree, or with 0 of the image's. Where
// that is the image's, and its blob has a table that is here, that locates it.
func (s *Session) newChunk(ctx context.Context, layer int, tree *rafs.Tree, c *rafs.Chunk) (Chunk, error) {
	b := tree.Blobs()[c.Blob]
	id := b.ID
	if layer > 0 && blob.IsSelf(b) {
		id = s.image.Layers[layer-1].BlobID()
	}
	chunk := Chunk{
		BlobIndex: c.Blob, BlobID: id, Index: c.Index,
		UncompressedOffset: c.UncompressedOffset, UncompressedSize: c.UncompressedSize,
		Compressed: c.Flags&rafs.ChunkCompressed != 0,
		Encrypted:  c.Flags&rafs.ChunkEncrypted != 0,
		Batch:      c.Flags&rafs.ChunkBatch != 0,
	}
	if c.HasDigest {
		chunk.Digest = digesterNames[b.Digester] + ":" + hex.EncodeToString(c.Digest[:])
	}
	if c.Flags&rafs.ChunkHasCRC32 != 0 {
		chunk.CRC32C = fmt.Sprintf("%08x", c.CRC32)
	}
	at, err := s.place(ctx, tree, c)
	if err == nil && at != nil {
		chunk.CompressedOffset, chunk.CompressedSize = &at.offset, &at.size
	}
	return chunk, err
}

// A place is where a chunk is stored in its blob.
type place struct {
	offset uint64
	size   uint32
}

// place returns where a chunk is stored, nil where nothing that is here says it.
func (s *Session) place(ctx context.Context, tree *rafs.Tree, c *rafs.Chunk) (*place, error) {
	b := tree.Blobs()[c.Blob]
	if b.Features&(rafs.BlobBatch|rafs.BlobZran) == 0 {
		return &place{c.CompressedOffset, c.CompressedSize}, nil
	}
	if tree != s.tree {
		return nil, nil
	}
	table, err := s.table(ctx, c.Blob, false)
	if err != nil || table == nil || int64(c.Index) >= int64(table.Len()) {
		return nil, err
	}
	m := table.Chunk(int(c.Index))
	return &place{m.CompressedOffset, m.CompressedSize}, nil
}

// offsetText shows where a chunk is stored.
func (c *Chunk) offsetText() string {
	if c.CompressedOffset == nil {
		return "?"
	}
	return fmt.Sprintf("%d+%d", *c.CompressedOffset, *c.CompressedSize)
}
