package rafs

import "bytes"

const (
	v5BlobPrefixSize   = 8 // prefetch offset and size, before each blob ID
	v5ExtendedBlobSize = 64
)

// v5Blobs decodes the blob table, IDs that a NUL byte parts, and the extended
// blob table, which may be empty.
func v5Blobs(table, extended []byte, super Superblock) ([]Blob, error) {
	var blobs []Blob
	// The table is padded with fewer than 8 zeros.
	for len(table) > v5BlobPrefixSize {
		id, rest, _ := bytes.Cut(table[v5BlobPrefixSize:], []byte{0})
		if err := checkBlobID(id); err != nil {
			return nil, err
		}
		blobs = append(blobs, Blob{
			Index:           len(blobs),
			ID:              string(id),
			Compressor:      super.Compressor,
			Digester:        super.Digester,
			ChunkSize:       super.ChunkSize,
			ReadaheadOffset: le.Uint32(table),
			ReadaheadSize:   le.Uint32(table[4:]),
		})
		table = rest
	}
	if len(extended) == 0 {
		return blobs, nil
	}
	if n := len(extended) / v5ExtendedBlobSize; n != len(blobs) {
		return nil, corruptf("the extended blob table has %d entries for %d blobs", n, len(blobs))
	}
	for i := range blobs {
		b := extended[i*v5ExtendedBlobSize:]
		blobs[i].ChunkCount = le.Uint32(b)
		// nydusd drops unknown bits in v5, so they have no meaning there.
		blobs[i].Features = BlobFeatures(le.Uint32(b[4:])) &^ blobUnknown
		blobs[i].UncompressedSize = le.Uint64(b[8:])
		blobs[i].CompressedSize = le.Uint64(b[16:])
	}
	return blobs, nil
}
