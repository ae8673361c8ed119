package blob

import (
	"fmt"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

const (
	// maxChunkSize bounds the memory that one chunk may take, or what chunks
	// share: it is nydusd's own bound for a chunk, a batch and a slice of a gzip
	// stream (RAFS_MAX_CHUNK_SIZE).
	maxChunkSize = 16 << 20
	// maxStoredSize is what a chunk of maxChunkSize may take in a blob:
	// compressors add little to what they cannot compress.
	maxStoredSize = maxChunkSize + maxChunkSize/8
)

// A codec knows one way in which bytes are stored. Each is a file of this
// package.
type codec interface {
	// decode returns the size bytes that stored stands for; it may return
	// stored itself. It never allocates much more than size. Its errors wrap
	// [rafs.ErrCorrupt].
	decode(stored []byte, size int) ([]byte, error)
}

// codecFor returns the codec of a blob's compressed chunks.
func codecFor(compressor rafs.Compressor) (codec, error) {
	switch compressor {
	case rafs.CompressorNone:
		return plainCodec{}, nil
	case rafs.CompressorLZ4:
		return lz4Codec{}, nil
	case rafs.CompressorGzip:
		return gzipCodec{}, nil
	case rafs.CompressorZstd:
		return zstdCodec{}, nil
	}
	return nil, fmt.Errorf("compressor %d of the blob: %w", compressor, rafs.ErrUnsupported)
}

// decompress returns the size bytes that data decompresses to. It never
// allocates much more than size. With CompressorNone it returns data itself.
func decompress(compressor rafs.Compressor, data []byte, size int) ([]byte, error) {
	c, err := codecFor(compressor)
	if err != nil {
		return nil, err
	}
	return c.decode(data, size)
}

// plainCodec is that of bytes which are stored as they are.
type plainCodec struct{}

func (plainCodec) decode(stored []byte, size int) ([]byte, error) {
	if len(stored) != size {
		return nil, fmt.Errorf("stored plain in %d bytes, not %d: %w", len(stored), size, rafs.ErrCorrupt)
	}
	return stored, nil
}
