package blob

import (
	"encoding/binary"
	"fmt"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// The sizes of an entry of blob.meta on disk, in bytes: BlobChunkInfoV1Ondisk
// and BlobChunkInfoV2Ondisk (storage/src/meta of the Nydus project).
const (
	chunkInfoV1 = 16
	chunkInfoV2 = 24
)

// MetaFlags are the flag bits of an entry of blob.meta. They are not those of
// [rafs.ChunkFlags].
type MetaFlags uint8

// The flags. Entries of version 1 have only MetaCompressed, which they do not
// store: it holds where the sizes differ.
const (
	MetaCompressed MetaFlags = 0x1
	MetaZran       MetaFlags = 0x2
	MetaBatch      MetaFlags = 0x4
	MetaEncrypted  MetaFlags = 0x8
	MetaHasCRC32   MetaFlags = 0x10
)

// A MetaChunk is an entry of blob.meta: where a chunk lies. Offsets and sizes
// are in bytes.
type MetaChunk struct {
	Flags MetaFlags
	// CompressedOffset and CompressedSize say where the chunk is stored, in a
	// blob of zran where its compressed bytes begin in the OCI layer. Of a chunk
	// in a batch they are the batch's offset, and 0.
	CompressedOffset uint64
	CompressedSize   uint32
	// UncompressedOffset is the chunk's place in the decompressed blob.
	UncompressedOffset uint64
	UncompressedSize   uint32
	// Context is the number of the batch or of the slice of a gzip stream in
	// which the chunk lies, Within its place in the decompressed bytes of that.
	// They are there only with MetaBatch or MetaZran.
	Context, Within uint32
	CRC32           uint32 // CRC-32C, only with MetaHasCRC32
}

// shared says whether the chunk lies in something that other chunks share.
func (c *MetaChunk) shared() bool { return c.Flags&(MetaBatch|MetaZran) != 0 }

func decodeMetaChunkV1(info []byte) MetaChunk {
	uncompressed, compressed := binary.LittleEndian.Uint64(info), binary.LittleEndian.Uint64(info[8:])
	c := MetaChunk{
		UncompressedOffset: uncompressed & 0xffffffff000,
		UncompressedSize:   uint32(uncompressed>>44|(uncompressed&0xf00)<<12) + 1,
		CompressedOffset:   compressed & 0xffffffffff,
		CompressedSize:     uint32(compressed>>44|(compressed&0xf0000000000)>>20) + 1,
	}
	if c.CompressedSize != c.UncompressedSize {
		c.Flags = MetaCompressed
	}
	return c
}

func decodeMetaChunkV2(info []byte) MetaChunk {
	uncompressed, compressed := binary.LittleEndian.Uint64(info), binary.LittleEndian.Uint64(info[8:])
	data := binary.LittleEndian.Uint64(info[16:])
	c := MetaChunk{
		Flags:              MetaFlags(uncompressed >> 56),
		UncompressedOffset: uncompressed & 0xffffffff << 12,
		UncompressedSize:   uint32(uncompressed>>32&0xffffff) + 1,
		CompressedOffset:   compressed & 0xffffffffff,
		CompressedSize:     uint32(compressed >> 40),
	}
	switch {
	case c.shared():
		c.Context, c.Within = uint32(data>>32), uint32(data)
	case c.Flags&MetaHasCRC32 != 0:
		c.CRC32 = uint32(data)
	}
	return c
}

// chunkFlags are the flags as the bootstrap would have them.
func (c *MetaChunk) chunkFlags() (flags rafs.ChunkFlags) {
	for _, f := range [...]struct {
		meta  MetaFlags
		chunk rafs.ChunkFlags
	}{{MetaCompressed, rafs.ChunkCompressed}, {MetaEncrypted, rafs.ChunkEncrypted}, {MetaBatch, rafs.ChunkBatch}} {
		if c.Flags&f.meta != 0 {
			flags |= f.chunk
		}
	}
	if c.Flags&MetaHasCRC32 != 0 && !c.shared() {
		flags |= rafs.ChunkHasCRC32
	}
	return flags
}

// digestSize is that of a chunk's digest in blob.digest, in bytes, of either
// digester.
const digestSize = 32

// Complete fills in what a bootstrap without a chunk table does not say of a chunk:
// where it is stored, from blob.meta, and its digest, from blob.digest
// ([TOC.Digests]), which goes by the same numbers.
func (m *Meta) Complete(c *rafs.Chunk, digests []byte) error {
	entry, err := m.entry(c.Index)
	if err != nil {
		return err
	}
	if int64(len(digests)) != int64(m.Len())*digestSize {
		return fmt.Errorf("blob.digest has %d bytes for %d chunks: %w", len(digests), m.Len(), rafs.ErrCorrupt)
	}
	if entry.UncompressedOffset != c.UncompressedOffset || entry.UncompressedSize != c.UncompressedSize {
		return fmt.Errorf("chunk %d: a file needs %d bytes at %d of the decompressed blob, blob.meta says %d at %d: %w",
			c.Index, c.UncompressedSize, c.UncompressedOffset, entry.UncompressedSize, entry.UncompressedOffset, rafs.ErrCorrupt)
	}
	c.CompressedOffset, c.CompressedSize = entry.CompressedOffset, entry.CompressedSize
	c.Flags, c.CRC32 = entry.chunkFlags(), entry.CRC32
	c.Digest, c.HasDigest = [digestSize]byte(digests[int(c.Index)*digestSize:]), true
	return nil
}
