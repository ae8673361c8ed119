package blob

import (
	"fmt"

	"github.com/pierrec/lz4/v4"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// lz4Codec is that of raw LZ4 blocks, which do not say their size.
type lz4Codec struct{}

func (lz4Codec) decode(stored []byte, size int) ([]byte, error) {
	out := make([]byte, size)
	n, err := lz4.UncompressBlock(stored, out)
	if err != nil || n != size {
		return nil, fmt.Errorf("lz4 block gives %d bytes, not %d (%v): %w", n, size, err, rafs.ErrCorrupt)
	}
	return out, nil
}
