package blob

import "encoding/binary"

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
