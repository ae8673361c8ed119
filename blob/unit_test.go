package blob

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// A metaBuilder writes a blob.meta with entries of version 2.
type metaBuilder struct {
	entries, contexts, dictionaries []byte
}

func (m *metaBuilder) entry(c MetaChunk) {
	le := binary.LittleEndian
	m.entries = le.AppendUint64(m.entries, c.UncompressedOffset>>12|uint64(c.UncompressedSize-1)<<32|uint64(c.Flags)<<56)
	m.entries = le.AppendUint64(m.entries, c.CompressedOffset|uint64(c.CompressedSize)<<40)
	m.entries = le.AppendUint64(m.entries, uint64(c.Context)<<32|uint64(c.Within))
}

func (m *metaBuilder) batch(stored, size uint32) {
	context := make([]byte, contextSize)
	binary.LittleEndian.PutUint32(context, stored)
	binary.LittleEndian.PutUint32(context[4:], size)
	m.contexts = append(m.contexts, context...)
}

// A zranContext has the fields of a slice's context.
type zranContext struct {
	in, dictionary         uint64
	stored, size, dictSize uint32
	before, bits           uint8
}

func (m *metaBuilder) slice(c zranContext) {
	le := binary.LittleEndian
	context := le.AppendUint64(nil, c.in)
	context = le.AppendUint64(context, 0)
	context = le.AppendUint64(context, c.dictionary)
	context = le.AppendUint32(context, c.stored)
	context = le.AppendUint32(context, c.size)
	context = le.AppendUint32(context, c.dictSize)
	m.contexts = append(m.contexts, append(context, c.before, c.bits, 0, 0)...)
}

// header is the header of the table, of count contexts of size bytes at off.
func (m *metaBuilder) header(off, size uint64, count uint32) []byte {
	le := binary.LittleEndian
	header := make([]byte, metaHeaderSize)
	le.PutUint32(header, metaMagic)
	le.PutUint32(header[12:], uint32(len(m.entries)/chunkInfoV2))
	le.PutUint64(header[40:], off)
	le.PutUint64(header[48:], size)
	le.PutUint32(header[56:], count)
	le.PutUint32(header[metaHeaderSize-4:], metaMagic)
	return header
}

// table returns the table with its header, and the blob table's entry for it.
func (m *metaBuilder) table(features rafs.BlobFeatures) ([]byte, rafs.Blob) {
	data := slices.Concat(m.entries, m.contexts, m.dictionaries)
	b := rafs.Blob{
		ID: "b", Compressor: rafs.CompressorZstd, Digester: rafs.SHA256, Features: features | rafs.BlobChunkInfoV2,
		ChunkCount: uint32(len(m.entries) / chunkInfoV2), Meta: rafs.BlobMeta{UncompressedSize: uint64(len(data))},
	}
	header := m.header(uint64(len(m.entries)), uint64(len(m.contexts)+len(m.dictionaries)), uint32(len(m.contexts)/contextSize))
	return append(data, header...), b
}

// open makes a reader of blob "b" with the table.
func (m *metaBuilder) open(t testing.TB, source Source, features rafs.BlobFeatures) *TreeReader {
	t.Helper()
	file, b := m.table(features)
	meta, err := ParseMeta(file, b)
	require.NoError(t, err)
	r := NewReader(map[string]Source{"b": source})
	r.SetMeta("b", meta)
	return r.Tree(t.Context(), []rafs.Blob{b}, "")
}

// batches packs contents, each in a batch of its own, and gives their chunks: each
// is half a content.
func batches(t testing.TB, contents ...[]byte) (*memory, *metaBuilder, []rafs.Chunk) {
	t.Helper()
	encoder, err := zstd.NewWriter(nil)
	require.NoError(t, err)
	m := &metaBuilder{}
	var blob []byte
	var chunks []rafs.Chunk
	for i, content := range contents {
		packed := encoder.EncodeAll(content, nil)
		if len(packed) >= len(content) {
			packed = content
		}
		half := len(content) / 2
		for n, part := range [][]byte{content[:half], content[half:]} {
			c := rafs.Chunk{
				Index: uint32(len(chunks)), UncompressedOffset: uint64(len(chunks)) << 12, UncompressedSize: uint32(len(part)),
				Digest: sha256.Sum256(part), HasDigest: true,
			}
			m.entry(MetaChunk{
				Flags: MetaBatch | MetaCompressed, CompressedOffset: uint64(len(blob)),
				UncompressedOffset: c.UncompressedOffset, UncompressedSize: c.UncompressedSize,
				Context: uint32(i), Within: uint32(n * half),
			})
			chunks = append(chunks, c)
		}
		m.batch(uint32(len(packed)), uint32(len(content)))
		blob = append(append(blob, packed...), make([]byte, largeGap+1)...)
	}
	return &memory{data: blob}, m, chunks
}

// However many ask for chunks of a batch, it is fetched and decompressed once.
func TestUnitOnce(t *testing.T) {
	contents := append(texts(20), noise(1000))
	source, m, chunks := batches(t, contents...)
	tree := m.open(t, source, rafs.BlobBatch)
	var group sync.WaitGroup
	for first := range 2 {
		for range 4 {
			group.Go(func() {
				for i := first; i < len(chunks); i += 2 {
					data, err := tree.ReadChunk(&chunks[i])
					assert.NoError(t, err)
					content := contents[i/2]
					assert.Equal(t, [][]byte{content[:len(content)/2], content[len(content)/2:]}[i%2], data)
				}
			})
		}
	}
	group.Go(func() {
		release, err := tree.Load(t.Context(), chunks)
		assert.NoError(t, err)
		release()
	})
	group.Wait()
	assert.Len(t, source.asked(), len(contents), "requests")
	stats := tree.reader.Stats()
	assert.Equal(t, int64(len(chunks)), stats.Chunks)
	assert.Zero(t, stats.ChunksAgain)
	assert.Zero(t, pinned(tree.reader), "entries that nobody lets go of")
}

// pinned counts the entries that are held.
func pinned(r *Reader) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, e := range r.entries {
		if e.pins > 0 {
			n++
		}
	}
	return n
}

// A chunk that is held does not keep its unit in memory.
func TestUnitsAreEvicted(t *testing.T) {
	contents := texts(10)
	source, m, chunks := batches(t, contents...)
	tree := m.open(t, source, rafs.BlobBatch)
	tree.reader.kept = 2 * 900
	var firsts []rafs.Chunk
	for i := 0; i < len(chunks); i += 2 {
		firsts = append(firsts, chunks[i])
	}
	release, err := tree.Load(t.Context(), firsts)
	require.NoError(t, err)
	assert.LessOrEqual(t, tree.reader.idle.bytes, int64(2*900))
	assert.Len(t, tree.reader.entries, len(firsts)+2, "the chunks, and the batches that fit")
	release()
	assert.LessOrEqual(t, tree.reader.idle.bytes, int64(2*900))
	for i := range chunks {
		_, err := tree.ReadChunk(&chunks[i])
		require.NoError(t, err)
	}
	assert.LessOrEqual(t, tree.reader.idle.bytes, int64(2*900))
}

// A unit in which expected chunks lie stays rather than others.
func TestUnitsAreExpected(t *testing.T) {
	contents := texts(3)
	source, m, chunks := batches(t, contents...)
	tree := m.open(t, source, rafs.BlobBatch)
	tree.reader.kept = 2*900 - 1
	read := func(which ...int) {
		for _, n := range which {
			_, err := tree.ReadChunk(&chunks[n])
			require.NoError(t, err)
		}
	}
	done := tree.Expect(chunks[1:2])
	read(0, 2, 4, 1)
	assert.Len(t, source.asked(), 3)
	done()
	assert.Empty(t, tree.reader.expected)
	read(3, 5, 0)
	assert.Len(t, source.asked(), 6, "nobody expected the first any more")
	defer tree.Expect(chunks[:1])() // its unit is in memory
	read(2, 4, 1)
	assert.Len(t, source.asked(), 8)
}

// A failure of a unit is that of all its chunks, and is tried again; one of a
// chunk is that chunk's alone.
func TestUnitFails(t *testing.T) {
	contents := texts(1)
	source, m, chunks := batches(t, contents...)
	source.fail = func(request int) error {
		if request == 1 {
			return ErrIncomplete
		}
		return nil
	}
	tree := m.open(t, source, rafs.BlobBatch)
	release, err := tree.Load(t.Context(), chunks)
	assert.ErrorIs(t, err, ErrIncomplete)
	assert.ErrorContains(t, err, "chunk 0 of blob b")
	release()
	assert.Empty(t, tree.reader.entries)
	damaged := slices.Clone(chunks)
	damaged[1].Digest[0] ^= 1
	release, err = tree.Load(t.Context(), damaged)
	assert.ErrorIs(t, err, ErrDigest)
	data, err := tree.ReadChunk(&damaged[0])
	assert.NoError(t, err)
	assert.Equal(t, contents[0][:450], data)
	release()
	assert.Zero(t, pinned(tree.reader))
	assert.Len(t, source.asked(), 2)
}

// A bootstrap cannot have a unit's bytes, which are not verified, taken for a
// chunk's.
func TestUnitIsNoChunk(t *testing.T) {
	source, m, chunks := batches(t, texts(1)...)
	stored := binary.LittleEndian.Uint32(m.contexts)
	m.entry(MetaChunk{Flags: MetaCompressed, CompressedSize: stored, UncompressedOffset: 2 << 12, UncompressedSize: 900})
	tree := m.open(t, source, rafs.BlobBatch)
	_, err := tree.ReadChunk(&chunks[0])
	require.NoError(t, err)
	_, err = tree.ReadChunk(&rafs.Chunk{
		Index: 2, Flags: rafs.ChunkCompressed, CompressedSize: stored, UncompressedOffset: 2 << 12, UncompressedSize: 900, HasDigest: true,
	})
	assert.ErrorIs(t, err, ErrDigest)
}

// TestLyingContexts reads chunks by tables whose numbers are made up.
func TestLyingContexts(t *testing.T) {
	content := []byte(strings.Repeat("content ", 100))
	size := uint32(len(content))
	chunk := rafs.Chunk{UncompressedSize: size, Digest: sha256.Sum256(content), HasDigest: true}
	batched := MetaChunk{Flags: MetaBatch, UncompressedSize: size}
	sliced := MetaChunk{Flags: MetaZran, UncompressedSize: size}
	for _, c := range []struct {
		name     string
		features rafs.BlobFeatures
		entry    MetaChunk
		batch    [2]uint32
		slice    zranContext
		one      bool  // a chunk of one byte is asked for
		is       error // nil for none
		says     string
	}{
		{name: "the truth", features: rafs.BlobBatch, entry: batched, batch: [2]uint32{size, size}},
		{name: "a batch that is not there", features: rafs.BlobBatch, entry: with(batched, func(c *MetaChunk) { c.Context = 1 }), batch: [2]uint32{size, size}, is: rafs.ErrCorrupt, says: "context 1 is not among the 1"},
		{name: "a batch far away", features: rafs.BlobBatch, entry: with(batched, func(c *MetaChunk) { c.Context = math.MaxUint32 }), batch: [2]uint32{size, size}, is: rafs.ErrCorrupt, says: "is not among"},
		{name: "behind the batch", features: rafs.BlobBatch, entry: with(batched, func(c *MetaChunk) { c.Within = 1 }), batch: [2]uint32{size, size}, is: rafs.ErrCorrupt, says: "800 bytes at 1 are not in the 800"},
		{name: "far behind the batch", features: rafs.BlobBatch, entry: with(batched, func(c *MetaChunk) { c.Within = math.MaxUint32 }), batch: [2]uint32{size, size}, is: rafs.ErrCorrupt, says: "are not in the 800"},
		{name: "a batch too large", features: rafs.BlobBatch, entry: batched, batch: [2]uint32{size, maxChunkSize + 1}, is: rafs.ErrCorrupt, says: "over the limit"},
		{name: "a batch stored too large", features: rafs.BlobBatch, entry: batched, batch: [2]uint32{maxStoredSize + 1, size}, is: rafs.ErrCorrupt, says: "over the limit"},
		{name: "a batch behind the blob", features: rafs.BlobBatch, entry: with(batched, func(c *MetaChunk) { c.CompressedOffset = 1 }), batch: [2]uint32{size, size}, is: ErrIncomplete, says: "outside the blob's 800 bytes"},
		{name: "a batch of something else", features: rafs.BlobBatch, entry: batched, batch: [2]uint32{size, size + 1}, is: rafs.ErrCorrupt, says: "zstd frame"},
		{name: "a batch and a slice", features: rafs.BlobBatch, entry: with(batched, func(c *MetaChunk) { c.Flags |= MetaZran }), batch: [2]uint32{size, size}, is: rafs.ErrCorrupt, says: "in a batch and in a gzip stream"},
		{name: "another size", features: rafs.BlobBatch, entry: with(batched, func(c *MetaChunk) { c.UncompressedSize-- }), batch: [2]uint32{size, size}, is: rafs.ErrCorrupt, says: "read other data"},
		{name: "another place", features: rafs.BlobBatch, entry: with(batched, func(c *MetaChunk) { c.UncompressedOffset = 4096 }), batch: [2]uint32{size, size}, is: rafs.ErrCorrupt, says: "read other data"},
		{name: "not in the batch", features: rafs.BlobBatch, entry: with(batched, func(c *MetaChunk) { c.Flags = 0 }), batch: [2]uint32{size, size}, is: rafs.ErrCorrupt, says: "stored plain in 0 bytes"},
		{name: "a slice that is none", features: rafs.BlobZran, entry: sliced, slice: zranContext{stored: size, size: size}, is: rafs.ErrCorrupt, says: "slice of a gzip stream"},
		{name: "a slice that is not there", features: rafs.BlobZran, entry: with(sliced, func(c *MetaChunk) { c.Context = 1 }), slice: zranContext{stored: size, size: size}, is: rafs.ErrCorrupt, says: "context 1 is not among the 1"},
		{name: "behind the slice", features: rafs.BlobZran, entry: with(sliced, func(c *MetaChunk) { c.Within = 1 }), slice: zranContext{stored: size, size: size}, is: rafs.ErrCorrupt, says: "are not in the 800"},
		{name: "a slice too large", features: rafs.BlobZran, entry: sliced, slice: zranContext{stored: size, size: maxChunkSize + 1}, is: rafs.ErrCorrupt, says: "over the limit"},
		{name: "a slice stored too large", features: rafs.BlobZran, entry: sliced, slice: zranContext{stored: math.MaxUint32, size: size}, is: rafs.ErrCorrupt, says: "over the limit"},
		{name: "a slice behind the layer", features: rafs.BlobZran, entry: sliced, slice: zranContext{in: 1, stored: size, size: size}, is: ErrIncomplete, says: "outside the blob's 800 bytes"},
		{name: "a slice nowhere", features: rafs.BlobZran, entry: sliced, slice: zranContext{in: math.MaxUint64, stored: size, size: size}, is: rafs.ErrCorrupt, says: "it lies at offset"},
		{name: "an offset that wraps around", features: rafs.BlobZran, entry: sliced, slice: zranContext{in: 1 << 63, stored: size, size: size}, is: rafs.ErrCorrupt, says: "it lies at offset"},
		{name: "a dictionary behind the table", features: rafs.BlobZran, entry: sliced, slice: zranContext{stored: size, size: size, dictionary: 1, dictSize: 4}, is: rafs.ErrCorrupt, says: "a dictionary of 4 bytes at 1"},
		{name: "a dictionary far away", features: rafs.BlobZran, entry: sliced, slice: zranContext{stored: size, size: size, dictionary: math.MaxUint64, dictSize: 4}, is: rafs.ErrCorrupt, says: "a dictionary of 4 bytes"},
		{name: "a dictionary too large", features: rafs.BlobZran, entry: sliced, slice: zranContext{stored: size, size: size, dictSize: deflateWindow + 1}, is: rafs.ErrCorrupt, says: "has a dictionary of 32769 bytes"},
		{name: "a slice stored in no bytes", features: rafs.BlobZran, entry: with(sliced, func(c *MetaChunk) { c.UncompressedSize = 1 }), slice: zranContext{size: 1, before: 0xc2, bits: 7}, one: true, is: rafs.ErrCorrupt, says: "are stored in none"},
		{name: "too many bits", features: rafs.BlobZran, entry: sliced, slice: zranContext{stored: size, size: size, bits: 8}, is: rafs.ErrCorrupt, says: "8 bits before it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := &metaBuilder{dictionaries: []byte("dict")}
			m.entry(c.entry)
			if c.features == rafs.BlobBatch {
				m.batch(c.batch[0], c.batch[1])
			} else {
				m.slice(c.slice)
			}
			tree := m.open(t, &memory{data: content}, c.features)
			chunk := chunk
			if c.one {
				chunk.UncompressedSize = 1
			}
			data, err := tree.ReadChunk(&chunk)
			if c.is == nil {
				require.NoError(t, err)
				assert.Equal(t, content, data)
				return
			}
			assert.ErrorIs(t, err, c.is)
			assert.ErrorContains(t, err, c.says)
			assert.Nil(t, data)
			assert.Empty(t, tree.reader.entries)
		})
	}
}

func with(c MetaChunk, change func(*MetaChunk)) MetaChunk {
	change(&c)
	return c
}

// TestLyingContextHeader reads tables whose header says wrong things of the
// contexts.
func TestLyingContextHeader(t *testing.T) {
	for _, features := range []rafs.BlobFeatures{rafs.BlobBatch, rafs.BlobZran} {
		m := &metaBuilder{}
		m.entry(MetaChunk{UncompressedSize: 1})
		m.batch(1, 1)
		file, b := m.table(features)
		data := file[:len(file)-metaHeaderSize]
		const off, size = chunkInfoV2, contextSize
		for name, header := range map[string][]byte{
			"too many":                    m.header(off, size, 2),
			"far too many":                m.header(off, size, math.MaxUint32),
			"behind the table":            m.header(off+1, size, 1),
			"far behind the table":        m.header(math.MaxUint64, size, 1),
			"an offset that wraps around": m.header(math.MaxUint64-size+1, size, 1),
		} {
			_, err := ParseMeta(slices.Concat(data, header), b)
			assert.ErrorIs(t, err, rafs.ErrCorrupt, name)
		}
		if features == rafs.BlobZran {
			_, err := ParseMeta(slices.Concat(data, m.header(off, size+1, 1)), b)
			assert.ErrorIs(t, err, rafs.ErrCorrupt, "too long")
		}
		_, err := ParseMeta(slices.Concat(data, m.header(off, size, 1)), b)
		assert.NoError(t, err)
		b.Features &^= rafs.BlobChunkInfoV2
		_, err = ParseMeta(file, b)
		assert.ErrorIs(t, err, rafs.ErrCorrupt, "entries of version 1")
		b.Meta.UncompressedSize = maxChunks*chunkInfoV2 + maxContexts + 1
		_, err = ParseMeta(file, b)
		assert.ErrorContains(t, err, "over the limit")
	}
}

// Without its table nothing of such a blob can be read.
func TestNeedsMeta(t *testing.T) {
	for _, features := range []rafs.BlobFeatures{rafs.BlobBatch, rafs.BlobZran} {
		b := rafs.Blob{ID: "b", Features: features | rafs.BlobChunkInfoV2}
		assert.True(t, NeedsMeta(b))
		tree := NewReader(map[string]Source{"b": &memory{}}).Tree(t.Context(), []rafs.Blob{b}, "")
		_, err := tree.ReadChunk(&rafs.Chunk{UncompressedSize: 1, HasDigest: true})
		assert.ErrorIs(t, err, ErrIncomplete)
		assert.ErrorContains(t, err, "only blob.meta locates it")
	}
	assert.False(t, NeedsMeta(rafs.Blob{Features: rafs.BlobChunkInfoV2 | rafs.BlobEncrypted}))
}

// TestSupported: what is refused is refused by name.
func TestSupported(t *testing.T) {
	for _, c := range []struct {
		blob rafs.Blob
		is   error // nil for none
		says string
	}{
		{rafs.Blob{}, nil, ""},
		{rafs.Blob{Features: rafs.BlobBatch}, nil, ""},
		{rafs.Blob{Features: rafs.BlobZran | rafs.BlobSeparate, Compressor: rafs.CompressorGzip}, nil, ""},
		{rafs.Blob{Features: rafs.BlobEncrypted, Cipher: rafs.CipherAES128XTS}, nil, ""},
		{rafs.Blob{Compressor: rafs.CompressorGzip}, nil, ""},
		{rafs.Blob{Features: rafs.BlobTarfs}, rafs.ErrUnsupported, "tarfs"},
		{rafs.Blob{Features: rafs.BlobExternal}, rafs.ErrUnsupported, "external backend"},
		{rafs.Blob{Features: rafs.BlobZran, Cipher: rafs.CipherAES128XTS}, rafs.ErrUnsupported, "refers to an OCI layer and is encrypted"},
		{rafs.Blob{Features: rafs.BlobEncrypted}, rafs.ErrCorrupt, "does not say how"},
		{rafs.Blob{Cipher: 2}, rafs.ErrUnsupported, "cipher 2"},
	} {
		tree := NewReader(nil).Tree(t.Context(), []rafs.Blob{c.blob}, "")
		_, err := tree.ReadChunk(&rafs.Chunk{})
		if c.is == nil {
			assert.NoError(t, Supported(c.blob))
			assert.ErrorContains(t, err, "no digest")
			continue
		}
		assert.ErrorIs(t, err, c.is)
		assert.ErrorContains(t, err, c.says)
	}
}

// TestEncryptedMeta reads a table that is encrypted with its blob.
func TestEncryptedMeta(t *testing.T) {
	m := &metaBuilder{}
	m.entry(MetaChunk{UncompressedSize: 7})
	m.entry(MetaChunk{UncompressedOffset: 4096, UncompressedSize: 8})
	file, b := m.table(rafs.BlobEncrypted)
	x, err := newXTS([32]byte{}, [16]byte{})
	require.NoError(t, err)
	b.Cipher = rafs.CipherAES128XTS
	b.Meta.CompressedSize = b.Meta.UncompressedSize
	table, header := file[:b.Meta.CompressedSize], file[b.Meta.CompressedSize:]
	stored := append(x.encrypt(table), x.encrypt(header)...)
	meta, err := ReadMeta(t.Context(), &memory{data: stored}, b)
	require.NoError(t, err)
	assert.Equal(t, uint32(8), meta.Chunk(1).UncompressedSize)
	assert.True(t, MetaIsPlain(file))
	assert.False(t, MetaIsPlain(stored))
	assert.False(t, MetaIsPlain(bytes.Clone(header[1:])))
	_, err = ReadMeta(t.Context(), &memory{data: file}, b)
	assert.ErrorIs(t, err, rafs.ErrCorrupt, "a table that is not encrypted")
}
