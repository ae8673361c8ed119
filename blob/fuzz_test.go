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
	"github.com/stretchr/testify/require"

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

// allocated is what a function allocates, in bytes.
func allocated(fn func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	fn()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func FuzzReadTOC(f *testing.F) {
	for _, seed := range seeds(f, "*.blob") {
		f.Add(seed)
		f.Add(seed[:len(seed)-tarHeaderSize]) // the tail lost
	}
	setBootstrapLimit(f)
	f.Fuzz(func(t *testing.T, blob []byte) {
		source := &strictSource{t, blob}
		toc, err := ReadTOC(t.Context(), source)
		again, errAgain := ReadTOC(t.Context(), source)
		require.Equal(t, err == nil, errAgain == nil, "read twice: %v and %v", err, errAgain)
		if err != nil {
			return
		}
		require.Equal(t, toc, again, "read twice")
		if toc.Size < 0 || toc.Size > int64(len(blob)) {
			t.Errorf("a table of %d bytes in a blob of %d", toc.Size, len(blob))
		}
		bootstrap, err := toc.Bootstrap(t.Context(), source)
		bootstrapAgain, errAgain := again.Bootstrap(t.Context(), source)
		require.Equal(t, err == nil, errAgain == nil, "read twice: %v and %v", err, errAgain)
		if err != nil {
			return
		}
		require.True(t, bytes.Equal(bootstrap, bootstrapAgain), "read twice")
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
// bootstraps and such that lie have it. Memory is in proportion to the file.
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
		var meta *Meta
		var err error
		if used := allocated(func() { meta, err = ParseMeta(file, b) }); used > 1<<20+16*uint64(len(file)) {
			t.Errorf("%d bytes allocated for a table of %d", used, len(file))
		}
		again, errAgain := ParseMeta(bytes.Clone(file), b)
		require.Equal(t, err == nil, errAgain == nil, "read twice: %v and %v", err, errAgain)
		if err != nil {
			return
		}
		if meta.Len() != int(count) {
			t.Errorf("%d chunks, not %d", meta.Len(), count)
		}
		if meta.Check(&rafs.Chunk{Index: count}) == nil {
			t.Errorf("chunk %d of %d passes", count, count)
		}
		if !meta.Same(again) {
			t.Error("read twice, the table is another than itself")
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
		var out []byte
		var err error
		used := allocated(func() { out, err = decompress(rafs.Compressor(compressor), data, int(size)) })
		if err == nil && len(out) != int(size) {
			t.Errorf("%d bytes without an error, not %d", len(out), size)
		}
		requireReason(t, err)
		// A decoder that a garbage collection took is made anew.
		if used > 16<<20+2*uint64(size) {
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

// FuzzZran inflates slices with any context, twice the same and with memory in
// proportion to their size. Its seeds are those of a real image, and one by hand.
func FuzzZran(f *testing.F) {
	real := 0
	for _, i := range fuzzedImages(f) {
		tree, err := rafs.Open(bytes.NewReader(i.Bootstrap), int64(len(i.Bootstrap)))
		require.NoError(f, err)
		for _, b := range tree.Blobs() {
			if b.Features&rafs.BlobZran == 0 {
				continue
			}
			m, err := ParseMeta(i.metas[b.ID], b)
			require.NoError(f, err)
			for k := range m.Len() {
				entry := m.Chunk(k)
				u, err := m.slice(&entry)
				require.NoError(f, err)
				z := u.codec.(zranCodec)
				stored := i.Blobs[b.ID][u.off:][:u.stored]
				out, err := z.decode(stored, int(u.size))
				require.NoError(f, err)
				require.Len(f, out, int(u.size))
				f.Add(stored, z.dictionary, z.before, z.bits, u.size)
				real++
			}
		}
	}
	require.NotZero(f, real, "no image has slices of a gzip stream")
	b := &bitWriter{}
	b.write(7, 3)
	b.literals("some text, ", false)
	b.stored("stored", false)
	b.back(2, true)
	f.Add(b.bytes[1:], []byte("a dictionary"), b.bytes[0], uint8(5), uint32(20))
	f.Add(b.bytes, []byte{}, uint8(0), uint8(0), uint32(1))
	f.Fuzz(func(t *testing.T, data, dictionary []byte, before, bits uint8, size uint32) {
		size %= 1 << 20
		z := zranCodec{dictionary: dictionary[:min(len(dictionary), deflateWindow)], before: before, bits: bits % 8}
		var out []byte
		var err error
		// A decoder that a garbage collection took is made anew.
		if used := allocated(func() { out, err = z.decode(data, int(size)) }); used > 1<<20+2*uint64(size) {
			t.Errorf("%d bytes allocated for %d", used, size)
		}
		if err == nil && len(out) != int(size) {
			t.Errorf("%d bytes without an error, not %d", len(out), size)
		}
		requireReason(t, err)
		again, errAgain := z.decode(data, int(size))
		require.Equal(t, err == nil, errAgain == nil, "inflated twice: %v and %v", err, errAgain)
		require.True(t, bytes.Equal(out, again), "inflated twice")
	})
}

// FuzzXTS decrypts anything, and encrypts whole blocks again.
func FuzzXTS(f *testing.F) {
	f.Add(make([]byte, 48), make([]byte, 32))
	f.Add(make([]byte, 18), make([]byte, 32))
	f.Fuzz(func(t *testing.T, data, seed []byte) {
		fresh := func() *xts {
			x, err := newXTS(sha256.Sum256(seed), [16]byte(sha256.New().Sum(nil)))
			require.NoError(t, err)
			return x
		}
		x := fresh()
		var plain []byte
		var err error
		if used := allocated(func() { plain, err = x.decrypt(data) }); used > 64<<10+2*uint64(len(data)) {
			t.Errorf("%d bytes allocated for %d", used, len(data))
		}
		again, errAgain := fresh().decrypt(data)
		require.Equal(t, err == nil, errAgain == nil, "decrypted twice: %v and %v", err, errAgain)
		require.True(t, bytes.Equal(plain, again), "decrypted twice")
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
