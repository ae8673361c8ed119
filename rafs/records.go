package rafs

// What is the same in every version of the on-disk format.

// chunkRecordSize is the size of a chunk record, RafsV5ChunkInfo: in v5 each
// file has a list of them, in v6 they are the chunk table.
const chunkRecordSize = 80

// decodeChunk decodes a chunk record. Nothing is checked: where int has 32
// bits, even Blob may be negative.
func decodeChunk(b []byte) Chunk {
	c := Chunk{
		Blob:               int(le.Uint32(b[32:])),
		Flags:              ChunkFlags(le.Uint32(b[36:])),
		CompressedSize:     le.Uint32(b[40:]),
		UncompressedSize:   le.Uint32(b[44:]),
		CompressedOffset:   le.Uint64(b[48:]),
		UncompressedOffset: le.Uint64(b[56:]),
		FileOffset:         int64(le.Uint64(b[64:])),
		Index:              le.Uint32(b[72:]),
		CRC32:              le.Uint32(b[76:]),
		HasDigest:          true,
	}
	copy(c.Digest[:], b)
	return c
}

// checkChunkSize checks the chunk size that a superblock declares.
func checkChunkSize(size uint32) error {
	if size < minChunkSize || size > maxChunkSize || size&(size-1) != 0 {
		return corruptf("the chunk size of %d bytes is not a power of two from %d to %d", size, minChunkSize, maxChunkSize)
	}
	return nil
}

// blobUnknown are the feature bits that a reader must understand but that no
// released format defines.
const blobUnknown BlobFeatures = 0xf000

// blobInternal is a bit that nydusd sets for itself. It refuses a v6 blob that has it.
const blobInternal BlobFeatures = 0x8000_0000

// checkBlobID rejects an ID that is no object name. IDs become parts of URLs
// and of file names, so this is where "../x" must stop.
func checkBlobID(id []byte) error {
	if len(id) == 0 || len(id) > maxBlobIDLength {
		return corruptf("a blob ID has %d bytes, not 1 to %d", len(id), maxBlobIDLength)
	}
	for i, c := range id {
		switch {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
		case i > 0 && (c == '.' || c == '-' || c == '_' || c == ':'):
		default:
			return corruptf("the blob ID %q has the character %q", id, c)
		}
	}
	return nil
}
