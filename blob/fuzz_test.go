package blob

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// seeds reads the real blobs and tables that TestRealTails keeps.
func seeds(f *testing.F, pattern string) [][]byte {
	f.Helper()
	names, err := filepath.Glob(filepath.Join("testdata", pattern))
	if err != nil || len(names) == 0 {
		f.Fatalf("find %s in testdata: %v", pattern, err)
	}
	var all [][]byte
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		all = append(all, data)
	}
	return all
}

func FuzzReadTOC(f *testing.F) {
	for _, seed := range seeds(f, "*.blob") {
		f.Add(seed)
		f.Add(seed[:len(seed)-tarHeaderSize]) // the tail lost
	}
	bootstrapLimit = 1 << 20
	f.Cleanup(func() { bootstrapLimit = MaxBootstrap })
	f.Fuzz(func(t *testing.T, blob []byte) {
		source := FileSource(bytes.NewReader(blob))
		toc, err := ReadTOC(t.Context(), source)
		if err != nil {
			return
		}
		if toc.Size < 0 || toc.Size > int64(len(blob)) {
			t.Errorf("a table of %d bytes in a blob of %d", toc.Size, len(blob))
		}
		bootstrap, err := toc.Bootstrap(t.Context(), source)
		if err != nil {
			return
		}
		for _, p := range toc.parts {
			if p.name == partBootstrap {
				if int64(len(bootstrap)) != p.size || p.hasDigest && sha256.Sum256(bootstrap) != p.digest {
					t.Errorf("a bootstrap of %d bytes is not what the table says: %+v", len(bootstrap), p)
				}
				break
			}
		}
	})
}

func FuzzParseMeta(f *testing.F) {
	for _, seed := range seeds(f, "*.meta") {
		count := binary.LittleEndian.Uint32(seed[len(seed)-metaHeaderSize+12:])
		f.Add(seed, uint64(len(seed)-metaHeaderSize), count, true)
		f.Add(seed, uint64(count)*chunkInfoV2, count, true)
		f.Add(seed, uint64(count)*chunkInfoV1, count, false)
		f.Add(seed, uint64(1)<<63, count, false)
	}
	f.Add([]byte{}, uint64(0), uint32(0), false)
	f.Fuzz(func(t *testing.T, file []byte, size uint64, count uint32, v2 bool) {
		b := rafs.Blob{ChunkCount: count, Meta: rafs.BlobMeta{UncompressedSize: size}}
		if v2 {
			b.Features = rafs.BlobChunkInfoV2
		}
		meta, err := ParseMeta(file, b)
		if err != nil {
			return
		}
		if len(meta.chunks) != int(count) {
			t.Errorf("%d chunks, not %d", len(meta.chunks), count)
		}
		if meta.Check(&rafs.Chunk{Index: count}) == nil {
			t.Errorf("chunk %d of %d passes", count, count)
		}
	})
}

// FuzzDecompress holds all codecs to the declared size.
func FuzzDecompress(f *testing.F) {
	for _, seed := range seeds(f, "*.blob") {
		for c := range uint8(4) {
			f.Add(c, seed[:min(len(seed), 500)], uint16(1000))
		}
	}
	f.Fuzz(func(t *testing.T, compressor uint8, data []byte, size uint16) {
		out, err := decompress(rafs.Compressor(compressor), data, int(size))
		if err == nil && len(out) != int(size) {
			t.Errorf("%d bytes without an error, not %d", len(out), size)
		}
	})
}
