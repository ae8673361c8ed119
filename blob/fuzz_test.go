package blob

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

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
	setBootstrapLimit(f)
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
		for _, p := range toc.Parts {
			if p.Name == PartBootstrap {
				if int64(len(bootstrap)) != p.Size || p.Digest != [32]byte{} && sha256.Sum256(bootstrap) != p.Digest {
					t.Errorf("a bootstrap of %d bytes is not what the table says: %+v", len(bootstrap), p)
				}
				break
			}
		}
	})
}

// FuzzParseMeta reads tables and locates every chunk by them, as merged
// bootstraps and such that lie have it.
func FuzzParseMeta(f *testing.F) {
	for _, seed := range seeds(f, "*.meta") {
		count := binary.LittleEndian.Uint32(seed[len(seed)-metaHeaderSize+12:])
		f.Add(seed, uint64(len(seed)-metaHeaderSize), count, uint32(rafs.BlobChunkInfoV2))
		f.Add(seed, uint64(count)*chunkInfoV2, count, uint32(rafs.BlobChunkInfoV2))
		f.Add(seed, uint64(count)*chunkInfoV1, count, uint32(0))
		f.Add(seed, uint64(1)<<63, count, uint32(0))
	}
	for _, features := range []rafs.BlobFeatures{rafs.BlobBatch, rafs.BlobZran} {
		m := &metaBuilder{dictionaries: []byte("dictionary")}
		m.entry(MetaChunk{Flags: MetaBatch, UncompressedSize: 1})
		m.entry(MetaChunk{Flags: MetaZran, UncompressedSize: 1})
		m.slice(zranContext{stored: 10, size: 10, dictSize: 10, bits: 3})
		file, b := m.table(features)
		f.Add(file, b.Meta.UncompressedSize, b.ChunkCount, uint32(b.Features))
	}
	f.Add([]byte{}, uint64(0), uint32(0), uint32(0))
	f.Fuzz(func(t *testing.T, file []byte, size uint64, count, features uint32) {
		b := rafs.Blob{ChunkCount: count, Features: rafs.BlobFeatures(features), Meta: rafs.BlobMeta{UncompressedSize: size}}
		meta, err := ParseMeta(file, b)
		if err != nil {
			return
		}
		if meta.Len() != int(count) {
			t.Errorf("%d chunks, not %d", meta.Len(), count)
		}
		if meta.Check(&rafs.Chunk{Index: count}) == nil {
			t.Errorf("chunk %d of %d passes", count, count)
		}
		if !meta.Same(meta) {
			t.Error("the table is another than itself")
		}
		for i := range meta.Len() {
			entry := meta.Chunk(i)
			c := rafs.Chunk{
				Index: uint32(i), CompressedOffset: entry.CompressedOffset, CompressedSize: entry.CompressedSize,
				UncompressedOffset: entry.UncompressedOffset, UncompressedSize: entry.UncompressedSize,
			}
			u, within, err := meta.shared(&c, rafs.CompressorZstd)
			if err == nil && u != nil && (u.check() != nil || uint64(within)+uint64(entry.UncompressedSize) > uint64(u.size)) {
				t.Errorf("chunk %d: %d bytes at %d of %+v", i, entry.UncompressedSize, within, u)
			}
		}
	})
}

// FuzzDecompress holds all codecs to the declared size, and to memory in
// proportion to it.
func FuzzDecompress(f *testing.F) {
	text := bytes.Repeat([]byte("some text that compresses well, "), 200)
	for compressor, stored := range map[rafs.Compressor][]byte{
		rafs.CompressorNone: text, rafs.CompressorLZ4: lz4Block(f, text), rafs.CompressorGzip: gzipMember(f, text), rafs.CompressorZstd: zstdFrame(f, text),
	} {
		out, err := decompress(compressor, stored, len(text)) // makes decoders, too
		if err != nil || !bytes.Equal(out, text) {
			f.Fatalf("compressor %d does not give what was compressed: %v", compressor, err)
		}
		for _, size := range []int{0, 1, len(text) - 1, len(text), len(text) + 1, 1 << 20} {
			f.Add(uint8(compressor), stored, uint32(size))
		}
	}
	for _, seed := range seeds(f, "*.blob") {
		for c := range uint8(5) {
			f.Add(c, seed[:min(len(seed), 500)], uint32(1000))
		}
	}
	const most = 1 << 20
	f.Fuzz(func(t *testing.T, compressor uint8, data []byte, size uint32) {
		size %= most + 1
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		out, err := decompress(rafs.Compressor(compressor), data, int(size))
		runtime.ReadMemStats(&after)
		if err == nil && len(out) != int(size) {
			t.Errorf("%d bytes without an error, not %d", len(out), size)
		}
		requireReason(t, err)
		// A decoder that a garbage collection took is made anew.
		if used := after.TotalAlloc - before.TotalAlloc; used > 16<<20+2*uint64(size) {
			t.Errorf("%d bytes allocated for %d", used, size)
		}
		// A gzip member may go on behind the chunk; of the others there is no more.
		if err == nil && rafs.Compressor(compressor) != rafs.CompressorGzip {
			if _, err := decompress(rafs.Compressor(compressor), data, int(size)+1); err == nil {
				t.Errorf("%d bytes and one more, of the same", size)
			}
		}
		again, errAgain := decompress(rafs.Compressor(compressor), data, int(size))
		if (err == nil) != (errAgain == nil) || err == nil && !bytes.Equal(out, again) {
			t.Errorf("decompressed twice: %v and %v", err, errAgain)
		}
	})
}

func lz4Block(f *testing.F, data []byte) []byte {
	out := make([]byte, lz4.CompressBlockBound(len(data)))
	n, err := lz4.CompressBlock(data, out, nil)
	if err != nil {
		f.Fatal(err)
	}
	return out[:n]
}

func gzipMember(f *testing.F, data []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(data); err != nil {
		f.Fatal(err)
	}
	if err := w.Close(); err != nil {
		f.Fatal(err)
	}
	return out.Bytes()
}

func zstdFrame(f *testing.F, data []byte) []byte {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		f.Fatal(err)
	}
	return w.EncodeAll(data, nil)
}

// FuzzZran inflates slices with any context.
func FuzzZran(f *testing.F) {
	b := &bitWriter{}
	b.write(7, 3)
	b.literals("some text, ", false)
	b.stored("stored", false)
	b.back(2, true)
	f.Add(b.bytes[1:], []byte("a dictionary"), b.bytes[0], uint8(5), uint16(20))
	f.Add(b.bytes, []byte{}, uint8(0), uint8(0), uint16(1))
	f.Fuzz(func(t *testing.T, data, dictionary []byte, before, bits uint8, size uint16) {
		z := zranCodec{dictionary: dictionary[:min(len(dictionary), deflateWindow)], before: before, bits: bits % 8}
		out, err := z.decode(data, int(size))
		if err == nil && len(out) != int(size) {
			t.Errorf("%d bytes without an error, not %d", len(out), size)
		}
	})
}

// FuzzXTS decrypts anything, and encrypts whole blocks again.
func FuzzXTS(f *testing.F) {
	f.Add(make([]byte, 48), make([]byte, 32))
	f.Add(make([]byte, 18), make([]byte, 32))
	f.Fuzz(func(t *testing.T, data, seed []byte) {
		x, err := newXTS(sha256.Sum256(seed), [16]byte(sha256.New().Sum(nil)))
		if err != nil {
			t.Fatal(err)
		}
		plain, err := x.decrypt(data)
		if len(plain) > len(data) {
			t.Errorf("%d bytes decrypted from %d", len(plain), len(data))
		}
		if len(data) < 16 && err == nil {
			t.Errorf("%d bytes are decrypted", len(data))
		}
		if len(data)%16 == 0 && len(data) > 0 && !bytes.Equal(x.encrypt(plain), data) {
			t.Errorf("%d bytes are not what they were", len(data))
		}
	})
}
