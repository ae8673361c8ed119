package blob

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// gzipCodec is that of (e)stargz layers, whose chunks begin where a member of a
// gzip stream does. Anything may follow the chunk.
type gzipCodec struct{}

func (gzipCodec) decode(stored []byte, size int) ([]byte, error) {
	out := make([]byte, size)
	n, err := 0, error(nil)
	member, err := gzip.NewReader(bytes.NewReader(stored))
	if err == nil {
		member.Multistream(false)
		n, err = io.ReadFull(member, out)
	}
	if err != nil {
		return nil, fmt.Errorf("gzip member gives %d bytes, not %d (%v): %w", n, size, err, rafs.ErrCorrupt)
	}
	return out, nil
}

// gzipStored bounds how many bytes a chunk of size bytes takes in a legacy
// stargz layer, where no table says it: the worst that gzip makes of it, and 128
// bytes so that its end is seen (compute_compressed_gzip_size in
// utils/src/compress of the Nydus project).
func gzipStored(size uint32) int64 {
	return int64(size) + 10 + 8 + 5 + int64(size/(16<<10))*5 + 128
}
