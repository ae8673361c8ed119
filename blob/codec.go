package blob

import (
	"crypto/sha256"
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"lukechampine.com/blake3"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// maxChunkSize bounds the memory that one chunk may take. The largest chunk
// size that builders offer is 16 MiB.
const maxChunkSize = 16 << 20

// decompress returns the size bytes that data decompresses to. It never
// allocates more than size. With CompressorNone it returns data itself.
func decompress(compressor rafs.Compressor, data []byte, size int) ([]byte, error) {
	switch compressor {
	case rafs.CompressorNone:
		if len(data) != size {
			return nil, fmt.Errorf("stored plain in %d bytes, not %d: %w", len(data), size, rafs.ErrCorrupt)
		}
		return data, nil
	case rafs.CompressorLZ4:
		out := make([]byte, size)
		n, err := lz4.UncompressBlock(data, out)
		if err != nil || n != size {
			return nil, fmt.Errorf("lz4 block gives %d bytes, not %d (%v): %w", n, size, err, rafs.ErrCorrupt)
		}
		return out, nil
	case rafs.CompressorZstd:
		decoder := zstdDecoders.Get().(*zstd.Decoder)
		defer zstdDecoders.Put(decoder)
		out, err := decoder.DecodeAll(data, make([]byte, 0, size))
		if err != nil || len(out) != size {
			return nil, fmt.Errorf("zstd frame gives %d bytes, not %d (%v): %w", len(out), size, err, rafs.ErrCorrupt)
		}
		return out, nil
	}
	return nil, fmt.Errorf("compressor %d of the blob: %w", compressor, rafs.ErrUnsupported)
}

// zstdDecoders are reused: a decoder's tables cost more than a small chunk.
// The limit on DecodeAll's output is the capacity it is given.
var zstdDecoders = sync.Pool{New: func() any {
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		panic(err) // only wrong options can do that
	}
	return decoder
}}

// verify compares data with the digest that the metadata gives for it.
func verify(digester rafs.Digester, data []byte, want [32]byte) error {
	var got [32]byte
	switch digester {
	case rafs.Blake3:
		got = blake3.Sum256(data)
	case rafs.SHA256:
		got = sha256.Sum256(data)
	default:
		return fmt.Errorf("digester %d of the blob: %w", digester, rafs.ErrUnsupported)
	}
	if got != want {
		return fmt.Errorf("bytes hash to %x, the metadata says %x: %w", got, want, ErrDigest)
	}
	return nil
}
