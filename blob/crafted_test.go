package blob

import (
	"bytes"
	"compress/gzip"
	"runtime"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// TestCraftedBombs decodes chunks that inflate to a gigabyte where the bootstrap says
// a kilobyte: they are refused, and no more memory is spent than the kilobyte needs.
func TestCraftedBombs(t *testing.T) {
	const inflated, declared = 1 << 30, 1 << 10
	zeros := make([]byte, 1<<20)
	var z, g, l bytes.Buffer
	zw, err := zstd.NewWriter(&z, zstd.WithEncoderConcurrency(1))
	require.NoError(t, err)
	gw := gzip.NewWriter(&g)
	for range inflated / len(zeros) / 16 { // a sixteenth is enough for the slow ones
		_, err = gw.Write(zeros)
		require.NoError(t, err)
	}
	for range inflated / len(zeros) {
		_, err = zw.Write(zeros)
		require.NoError(t, err)
	}
	require.NoError(t, zw.Close())
	require.NoError(t, gw.Close())
	block := make([]byte, lz4.CompressBlockBound(len(zeros)))
	n, err := lz4.CompressBlock(zeros, block, nil)
	require.NoError(t, err)
	l.Write(block[:n])
	// A frame that only says that it is large: a header with a content size of 2^62.
	claim := []byte{0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 0, 0, 0x40, 1, 0, 0}
	for _, c := range []struct {
		name   string
		codec  codec
		stored []byte
		fine   bool // gzip chunks may be followed by anything
	}{
		{"zstd", zstdCodec{}, z.Bytes(), false},
		{"zstd that only claims it", zstdCodec{}, claim, false},
		{"lz4", lz4Codec{}, l.Bytes(), false},
		{"gzip", gzipCodec{}, g.Bytes(), true},
		{"a batch", batchCodec{zstdCodec{}}, z.Bytes(), false},
		{"plain", plainCodec{}, make([]byte, 1<<20), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _ = c.codec.decode(c.stored, declared) // decoders are made once
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			data, err := c.codec.decode(c.stored, declared)
			runtime.ReadMemStats(&after)
			assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(4<<20))
			if c.fine {
				require.NoError(t, err)
				assert.Len(t, data, declared)
				return
			}
			assert.ErrorIs(t, err, rafs.ErrCorrupt)
		})
	}
}

// TestCraftedEntries reads tables of chunks in which places overlap, or that say of
// chunks what their blob has not.
func TestCraftedEntries(t *testing.T) {
	for _, c := range []struct {
		name    string
		entries []MetaChunk
		says    string // "" for none
	}{
		{"one behind the other", []MetaChunk{{UncompressedSize: 4096}, {UncompressedOffset: 4096, UncompressedSize: 1}}, ""},
		{"two at one place", []MetaChunk{{UncompressedSize: 4096}, {UncompressedSize: 4096}}, "where the one before ends at 4096"},
		{"one over the other", []MetaChunk{{UncompressedSize: 4097}, {UncompressedOffset: 4096, UncompressedSize: 1}}, "where the one before ends at 4097"},
		{"not in order", []MetaChunk{{UncompressedOffset: 8192, UncompressedSize: 1}, {UncompressedSize: 1}}, "puts chunk 1 at 0"},
		{"in a batch that is none", []MetaChunk{{Flags: MetaBatch, UncompressedSize: 1}}, "shares what it is stored in"},
		{"in a slice that is none", []MetaChunk{{Flags: MetaZran, UncompressedSize: 1}}, "shares what it is stored in"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := &metaBuilder{}
			for _, e := range c.entries {
				m.entry(e)
			}
			file, b := m.table(0)
			_, err := ParseMeta(file, b)
			if c.says == "" {
				require.NoError(t, err)
				return
			}
			assert.ErrorIs(t, err, rafs.ErrCorrupt)
			assert.ErrorContains(t, err, c.says)
		})
	}
}
