package blob

import (
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// zstdCodec is that of one zstd frame for each chunk.
type zstdCodec struct{}

func (zstdCodec) decode(stored []byte, size int) ([]byte, error) {
	decoder := zstdDecoders.Get().(*zstd.Decoder)
	defer zstdDecoders.Put(decoder)
	out, err := decoder.DecodeAll(stored, make([]byte, 0, size))
	if err != nil || len(out) != size {
		return nil, fmt.Errorf("zstd frame gives %d bytes, not %d (%v): %w", len(out), size, err, rafs.ErrCorrupt)
	}
	return out, nil
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
