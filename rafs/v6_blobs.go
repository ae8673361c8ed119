package rafs

import (
	"bytes"
	"fmt"
	"math"
)

const (
	v6BlobSize = 256

	// What blob.meta has for each chunk: BlobChunkInfoV1Ondisk and V2.
	v6MetaEntryV1 = 16
	v6MetaEntryV2 = 24
)

// v6Blobs decodes the blob table. The checks are those of nydusd
// (RafsV6Blob::validate).
func v6Blobs(table []byte, chunkSize uint32) ([]Blob, error) {
	if len(table)%v6BlobSize != 0 {
		return nil, corruptf("the blob table of %d bytes is not made of entries of %d", len(table), v6BlobSize)
	}
	blobs := make([]Blob, len(table)/v6BlobSize)
	for i := range blobs {
		b := table[i*v6BlobSize:]
		blobs[i] = decodeV6Blob(b)
		if err := checkV6Blob(&blobs[i], i, chunkSize); err != nil {
			return nil, fmt.Errorf("blob table entry %d: %w", i, err)
		}
	}
	return blobs, nil
}

func decodeV6Blob(b []byte) Blob {
	blob := Blob{
		ID:               string(bytes.TrimRight(b[:64], "\x00")),
		Index:            int(le.Uint32(b[64:])),
		ChunkSize:        le.Uint32(b[68:]),
		ChunkCount:       le.Uint32(b[72:]),
		Compressor:       Compressor(v6Small(b[76:])),
		Digester:         Digester(v6Small(b[80:])),
		Features:         BlobFeatures(le.Uint32(b[84:])),
		CompressedSize:   le.Uint64(b[88:]),
		UncompressedSize: le.Uint64(b[96:]),
		TOCSize:          le.Uint32(b[104:]),
		Meta: BlobMeta{
			Compressor:       Compressor(v6Small(b[108:])),
			Offset:           le.Uint64(b[112:]),
			CompressedSize:   le.Uint64(b[120:]),
			UncompressedSize: le.Uint64(b[128:]),
		},
		Cipher: Cipher(le.Uint32(b[216:])),
	}
	copy(blob.TOCDigest[:], b[136:])
	if blob.Cipher == CipherNone {
		copy(blob.MetaDigest[:], b[168:])
		blob.MetaSize = le.Uint64(b[200:])
	} else {
		copy(blob.Secret.key[:], b[168:])
		copy(blob.Secret.iv[:], b[200:])
	}
	return blob
}

// v6Small reads a field of 4 bytes that has small values only. What does not fit
// becomes one that no release knows.
func v6Small(b []byte) uint8 { return uint8(min(le.Uint32(b), math.MaxUint8)) }

func checkV6Blob(b *Blob, index int, chunkSize uint32) error {
	if err := checkBlobID([]byte(b.ID)); err != nil {
		return err
	}
	switch unknown := b.Features & blobUnknown; {
	case unknown != 0:
		return unsupportedf("blob features %#x", uint32(unknown))
	case b.Features&BlobTarfs != 0:
		return unsupportedf("tarfs mode")
	case b.Compressor > CompressorZstd:
		return unsupportedf("blob compressor %d", b.Compressor)
	case b.Meta.Compressor > CompressorZstd:
		return unsupportedf("compressor %d of blob.meta", b.Meta.Compressor)
	case b.Digester > SHA256:
		return unsupportedf("blob digester %d", b.Digester)
	case b.Cipher > CipherAES128XTS:
		return unsupportedf("blob cipher %d", b.Cipher)
	case b.Index != index:
		return corruptf("it says it is entry %d", b.Index)
	case b.ChunkSize != chunkSize:
		return corruptf("its chunk size is %d, that of the superblock %d", b.ChunkSize, chunkSize)
	case b.ChunkCount > maxBlobChunks:
		return corruptf("it has %d chunks, more than %d", b.ChunkCount, maxBlobChunks)
	case b.Features&BlobAligned == 0:
		return corruptf("its chunks are not aligned")
	}
	return checkV6Meta(b)
}

// checkV6Meta checks the place of blob.meta. Its size follows from the number
// of chunks, but for contexts at the end of some kinds.
func checkV6Meta(b *Blob) error {
	m := b.Meta
	if m.Offset+m.CompressedSize < m.Offset || m.CompressedSize > m.UncompressedSize {
		return corruptf("blob.meta has %d bytes at %d for %d decompressed ones",
			m.CompressedSize, m.Offset, m.UncompressedSize)
	}
	v2 := b.Features&BlobChunkInfoV2 != 0
	more := b.Features&(BlobBatch|BlobZran|BlobEncrypted) != 0
	size := uint64(b.ChunkCount) * v6MetaEntryV1
	if v2 {
		size = uint64(b.ChunkCount) * v6MetaEntryV2
	}
	switch {
	case more && !v2:
		return corruptf("features %#x need entries of version 2 in blob.meta", uint32(b.Features))
	case more && m.UncompressedSize >= size:
	case !v2 && b.Features&BlobChunkDict != 0: // nydusd has no rule for these
	case m.UncompressedSize != size:
		return corruptf("blob.meta has %d bytes for %d chunks, which take %d", m.UncompressedSize, b.ChunkCount, size)
	}
	return nil
}
