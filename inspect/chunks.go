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
	// CompressedOffset and CompressedSize are missing where only blob.meta locates the
	// chunk, and that is not there. In a batch they are the batch's offset, and 0.
	CompressedOffset   *uint64 `json:"compressed_offset,omitempty"`
	CompressedSize     *uint32 `json:"compressed_size,omitempty"`
	UncompressedOffset uint64  `json:"uncompressed_offset"`
	UncompressedSize   uint32  `json:"uncompressed_size"`
	// Compressed, Encrypted and Batch are the chunk's flags, those of blob.meta where
	// that locates it: the bootstrap does not know of batches.
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
	if !blob.NeedsMeta(b) {
		chunk.CompressedOffset, chunk.CompressedSize = &c.CompressedOffset, &c.CompressedSize
		return chunk, nil
	}
	if layer > 0 {
		return chunk, nil
	}
	table, err := s.table(ctx, c.Blob)
	if err != nil || table == nil || int64(c.Index) >= int64(table.Len()) {
		return chunk, err
	}
	m := table.Chunk(int(c.Index))
	chunk.CompressedOffset, chunk.CompressedSize = &m.CompressedOffset, &m.CompressedSize
	chunk.Compressed = m.Flags&blob.MetaCompressed != 0
	chunk.Encrypted = m.Flags&blob.MetaEncrypted != 0
	chunk.Batch = m.Flags&blob.MetaBatch != 0
	return chunk, nil
}

// offsetText shows where a chunk is stored.
func (c *Chunk) offsetText() string {
	if c.CompressedOffset == nil {
		return "?"
	}
	return fmt.Sprintf("%d+%d", *c.CompressedOffset, *c.CompressedSize)
}
