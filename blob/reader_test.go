package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// A memory is a source that counts the requests and may fail them.
type memory struct {
	data []byte
	fail func(request int) error // nil for never

	mu     sync.Mutex
	ranges [][2]int64
}

func (m *memory) Size() int64 { return int64(len(m.data)) }

func (m *memory) ReadRange(ctx context.Context, p []byte, off int64) error {
	m.mu.Lock()
	m.ranges = append(m.ranges, [2]int64{off, off + int64(len(p))})
	request := len(m.ranges)
	m.mu.Unlock()
	if m.fail != nil {
		if err := m.fail(request); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	copy(p, m.data[off:])
	return nil
}

func (m *memory) asked() [][2]int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	slices.SortFunc(m.ranges, func(a, b [2]int64) int { return int(a[0] - b[0]) })
	return m.ranges
}

// singly is a memory of which each range needs a request.
type singly struct{ *memory }

func (singly) several() bool { return false }

func (singly) readRanges(context.Context, []byteRange) error { return errSingly }

// pack writes contents, gap bytes apart, as the zstd chunks of blob "b".
func pack(t testing.TB, gap int, contents ...[]byte) (*memory, []rafs.Chunk) {
	t.Helper()
	encoder, err := zstd.NewWriter(nil)
	require.NoError(t, err)
	var blob []byte
	var chunks []rafs.Chunk
	for i, content := range contents {
		c := rafs.Chunk{
			Index: uint32(i), Flags: rafs.ChunkCompressed, CompressedOffset: uint64(len(blob)),
			UncompressedSize: uint32(len(content)), Digest: sha256.Sum256(content), HasDigest: true,
		}
		stored := encoder.EncodeAll(content, nil)
		if len(stored) >= len(content) {
			stored, c.Flags = content, 0
		}
		c.CompressedSize = uint32(len(stored))
		blob = append(append(blob, stored...), make([]byte, gap)...)
		chunks = append(chunks, c)
	}
	return &memory{data: blob}, chunks
}

// view is a tree of which all chunks lie in blob "b".
func view(t testing.TB, source Source) *TreeReader {
	t.Helper()
	r := NewReader(map[string]Source{"b": source})
	return r.Tree(t.Context(), []rafs.Blob{{ID: "b", Compressor: rafs.CompressorZstd, Digester: rafs.SHA256}}, "")
}

func texts(n int) [][]byte {
	var all [][]byte
	for i := range n {
		all = append(all, bytes.Repeat([]byte(fmt.Sprintf("chunk %d. ", i)), 100))
	}
	return all
}

// noises are contents that are stored as they are. Tests in a bubble of synctest
// need them: a decoder that is made there cannot be used again outside.
func noises(n int) [][]byte {
	var all [][]byte
	for i := range n {
		all = append(all, noise(900+i))
	}
	return all
}

// However many ask, a chunk is fetched once.
func TestReadChunkOnce(t *testing.T) {
	contents := texts(20)
	source, chunks := pack(t, largeGap+1, contents...)
	tree := view(t, source)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for i := range chunks {
				data, err := tree.ReadChunk(&chunks[i])
				assert.NoError(t, err)
				assert.Equal(t, contents[i], data)
			}
		})
		group.Go(func() {
			release, err := tree.Load(t.Context(), chunks)
			assert.NoError(t, err)
			release()
		})
	}
	group.Wait()
	asked := source.asked()
	assert.Len(t, asked, len(chunks), "requests")
	var fetched int64
	for _, r := range asked {
		fetched += r[1] - r[0]
	}
	stats := tree.reader.Stats()
	assert.Equal(t, int64(20), stats.Chunks)
	assert.Zero(t, stats.ChunksAgain)
	assert.Equal(t, fetched, stats.Read, "all that was fetched was read")
}

func TestLoadMergesNeighbours(t *testing.T) {
	for _, c := range []struct {
		gap      int
		requests int
	}{{0, 1}, {100, 1}, {smallGap, 1}, {smallGap + 1, 5}} {
		source, chunks := pack(t, c.gap, texts(5)...)
		tree := view(t, source)
		slices.Reverse(chunks) // the order is not the blob's
		release, err := tree.Load(t.Context(), chunks)
		require.NoError(t, err)
		assert.Len(t, source.asked(), c.requests, "requests with gaps of %d bytes", c.gap)
		for i := range chunks {
			_, err := tree.ReadChunk(&chunks[i])
			assert.NoError(t, err)
		}
		assert.Len(t, source.asked(), c.requests, "what is loaded is not fetched again")
		release()
	}
}

func TestIdleChunksAreEvicted(t *testing.T) {
	contents := texts(10) // of 900 bytes, "chunk 0. " to "chunk 9. "
	source, chunks := pack(t, largeGap+1, contents...)
	tree := view(t, source)
	tree.reader.kept = 3 * 900
	release, err := tree.Load(t.Context(), chunks[:5])
	require.NoError(t, err)
	read := func(i int) {
		_, err := tree.ReadChunk(&chunks[i])
		require.NoError(t, err)
	}
	for i := range 10 {
		read(i)
	}
	require.Len(t, source.asked(), 10)
	for i := range 5 {
		read(i)
	}
	assert.Len(t, source.asked(), 10, "what is pinned survives")
	read(5)
	assert.Len(t, source.asked(), 11, "the oldest of five idle chunks is gone")
	read(9)
	assert.Len(t, source.asked(), 11, "the youngest is not")
	assert.Equal(t, int64(3*900), tree.reader.idle.bytes)
	release()
	assert.Equal(t, int64(3*900), tree.reader.idle.bytes, "what was pinned counts as idle once it is released")
	assert.Len(t, tree.reader.entries, 3)
	assert.Equal(t, int64(1), tree.reader.Stats().ChunksAgain)
}

// What was loaded ahead stays until it has been read, whatever else is read meanwhile.
func TestUnreadChunksStay(t *testing.T) {
	source, chunks := pack(t, largeGap+1, texts(10)...)
	tree := view(t, source)
	tree.reader.kept = 3 * 900
	release, err := tree.Load(t.Context(), chunks[:2])
	require.NoError(t, err)
	release()
	read := func(i int) {
		_, err := tree.ReadChunk(&chunks[i])
		require.NoError(t, err)
	}
	for i := 2; i < 10; i++ {
		read(i)
	}
	require.Len(t, source.asked(), 10)
	read(0)
	read(1)
	assert.Len(t, source.asked(), 10, "requests")
	read(2)
	read(3)
	read(0)
	assert.Len(t, source.asked(), 13, "what was read goes as the rest does")
	release, err = tree.Load(t.Context(), chunks[3:10])
	require.NoError(t, err)
	release()
	assert.Equal(t, int64(3*900), tree.reader.idle.bytes, "there are no exceptions to the bound")
}

// A chunk that is stored plain does not keep the span in memory that it came in.
func TestPlainChunkIsOnItsOwn(t *testing.T) {
	source, chunks := pack(t, 0, noise(1000), noise(100000))
	tree := view(t, source)
	release, err := tree.Load(t.Context(), chunks)
	require.NoError(t, err)
	defer release()
	data, err := tree.ReadChunk(&chunks[0])
	require.NoError(t, err)
	assert.Less(t, cap(data), 2000)
}

func TestFailedChunkIsTriedAgain(t *testing.T) {
	gone := errors.New("gone")
	contents := texts(2)
	source, chunks := pack(t, 0, contents...)
	source.fail = func(request int) error {
		if request <= 2 {
			return gone
		}
		return nil
	}
	tree := view(t, source)
	_, err := tree.ReadChunk(&chunks[0])
	assert.ErrorIs(t, err, gone)
	assert.ErrorContains(t, err, "chunk 0 of blob b")
	release, err := tree.Load(t.Context(), chunks)
	assert.ErrorIs(t, err, gone)
	// Still pinned by the failed Load, and yet tried again.
	data, err := tree.ReadChunk(&chunks[0])
	require.NoError(t, err)
	assert.Equal(t, contents[0], data)
	release()
	_, err = tree.ReadChunk(&chunks[0])
	assert.NoError(t, err)
	assert.Len(t, source.asked(), 3, "the release of the failed chunk does not evict the good one")
	assert.Len(t, tree.reader.entries, 1)
}

// Whoever waits for a chunk that another fetches stops when its context ends,
// and the fetch goes on.
func TestWaitersEndWithTheirContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, chunks := pack(t, 0, noises(1)...)
		arrive := make(chan struct{})
		source.fail = func(int) error { <-arrive; return nil }
		tree := view(t, source)
		fetched := make(chan error)
		go func() { _, err := tree.ReadChunk(&chunks[0]); fetched <- err }()
		synctest.Wait()

		ctx, cancel := context.WithCancelCause(t.Context())
		waited := make(chan error)
		go func() {
			release, err := tree.Load(ctx, chunks)
			release()
			waited <- err
		}()
		synctest.Wait()
		cause := errors.New("interrupted")
		cancel(cause)
		assert.ErrorIs(t, <-waited, cause)
		close(arrive)
		assert.NoError(t, <-fetched)
		assert.Len(t, source.asked(), 1)
	})
}

// At most so many requests are under way at once, in all of the image.
func TestParallelRequestsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, chunks := pack(t, largeGap+1, noises(40)...)
		arrive := make(chan struct{})
		source.fail = func(int) error { <-arrive; return nil }
		tree := view(t, singly{source})
		for _, part := range [][]rafs.Chunk{chunks[:20], chunks[20:]} {
			go func() {
				release, err := tree.Load(t.Context(), part)
				assert.NoError(t, err)
				release()
			}()
		}
		synctest.Wait()
		assert.Len(t, source.asked(), parallelRequests)
		close(arrive)
		synctest.Wait()
		assert.Len(t, source.asked(), 40)
	})
}

// TestBadChunks reads chunks that are not what the bootstrap says.
func TestBadChunks(t *testing.T) {
	encoder, err := zstd.NewWriter(nil)
	require.NoError(t, err)
	bomb := encoder.EncodeAll(make([]byte, 8<<20), nil)
	var unsized bytes.Buffer // a stream says nothing of its size before its end
	stream, err := zstd.NewWriter(&unsized)
	require.NoError(t, err)
	for range 64 {
		_, err = stream.Write(make([]byte, 128<<10))
		require.NoError(t, err)
	}
	require.NoError(t, stream.Close())
	// A frame header that claims 2^60 bytes, and nothing else.
	claim := []byte{0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0x01, 0, 0}

	for _, c := range []struct {
		name   string
		stored []byte
		change func(*rafs.Chunk)
		is     error
		says   string
	}{
		{"a frame that gives more", bomb, nil, rafs.ErrCorrupt, "not 1000"},
		{"a frame that gives more without saying so", unsized.Bytes(), nil, rafs.ErrCorrupt, "not 1000"},
		{"a frame that claims far more", claim, nil, rafs.ErrCorrupt, "not 1000"},
		{"a frame that gives less", encoder.EncodeAll(make([]byte, 999), nil), nil, rafs.ErrCorrupt, "gives 999 bytes, not 1000"},
		{"no frame", noise(500), nil, rafs.ErrCorrupt, "zstd frame"},
		{"half a frame", encoder.EncodeAll(noise(1000), nil)[:500], nil, rafs.ErrCorrupt, "zstd frame"},
		{"other bytes", encoder.EncodeAll(make([]byte, 1000), nil), nil, ErrDigest, "the metadata says"},
		{"other plain bytes", make([]byte, 1000), func(c *rafs.Chunk) { c.Flags = 0 }, ErrDigest, "the metadata says"},
		{"plain bytes, too few", make([]byte, 999), func(c *rafs.Chunk) { c.Flags = 0 }, rafs.ErrCorrupt, "stored plain in 999 bytes, not 1000"},
		{"a chunk behind the blob", make([]byte, 1000), func(c *rafs.Chunk) { c.CompressedOffset = 1 }, ErrIncomplete, "outside the blob's 1000 bytes"},
		{"a chunk far behind the blob", make([]byte, 1000), func(c *rafs.Chunk) { c.CompressedOffset = 1 << 62 }, ErrIncomplete, "outside the blob's 1000 bytes"},
		{"a chunk nowhere", make([]byte, 1000), func(c *rafs.Chunk) { c.CompressedOffset = 1 << 63 }, rafs.ErrCorrupt, "at offset"},
		{"a chunk too large", make([]byte, 1000), func(c *rafs.Chunk) { c.UncompressedSize = maxChunkSize + 1 }, rafs.ErrCorrupt, "over the limit"},
		{"a chunk stored too large", make([]byte, 1000), func(c *rafs.Chunk) { c.CompressedSize = 1 << 31 }, rafs.ErrCorrupt, "over the limit"},
		{"a blob that is not there", nil, func(c *rafs.Chunk) { c.Blob = 1 }, ErrIncomplete, "manifest does not list that blob"},
		{"a blob that nobody knows", nil, func(c *rafs.Chunk) { c.Blob = 2 }, rafs.ErrCorrupt, "lies in blob 2 of 2"},
		{"no digest", make([]byte, 1000), func(c *rafs.Chunk) { c.HasDigest = false }, rafs.ErrUnsupported, "no digest"},
		{"encrypted", make([]byte, 1000), func(c *rafs.Chunk) { c.Flags |= rafs.ChunkEncrypted }, rafs.ErrCorrupt, "it is encrypted, the blob is not"},
		{"in a batch", make([]byte, 1000), func(c *rafs.Chunk) { c.Flags |= rafs.ChunkBatch }, rafs.ErrCorrupt, "it lies in a batch, the blob has none"},
	} {
		t.Run(c.name, func(t *testing.T) {
			source := &memory{data: c.stored}
			r := NewReader(map[string]Source{"b": source})
			table := rafs.Blob{ID: "b", Compressor: rafs.CompressorZstd, Digester: rafs.SHA256}
			missing := table
			missing.ID = "missing"
			tree := r.Tree(t.Context(), []rafs.Blob{table, missing}, "")
			chunk := rafs.Chunk{
				Flags: rafs.ChunkCompressed, CompressedSize: uint32(len(c.stored)), UncompressedSize: 1000,
				Digest: sha256.Sum256(noise(1000)), HasDigest: true,
			}
			if c.change != nil {
				c.change(&chunk)
			}
			data, err := tree.ReadChunk(&chunk)
			assert.ErrorIs(t, err, c.is)
			assert.ErrorContains(t, err, c.says)
			assert.Nil(t, data, "nothing is returned that was not verified")
			release, err := tree.Load(t.Context(), []rafs.Chunk{chunk})
			assert.ErrorIs(t, err, c.is)
			release()
			assert.Empty(t, r.entries)
		})
	}
}

// A frame that gives more than it should costs no memory for it.
func TestDecompressIsBounded(t *testing.T) {
	var bomb bytes.Buffer
	w, err := zstd.NewWriter(&bomb) // a stream, whose frame does not say its size
	require.NoError(t, err)
	for range 64 {
		_, err = w.Write(make([]byte, 1<<20))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	_, err = decompress(rafs.CompressorZstd, bomb.Bytes(), 1000) // its first use makes a decoder
	require.ErrorIs(t, err, rafs.ErrCorrupt)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err = decompress(rafs.CompressorZstd, bomb.Bytes(), 1000)
	runtime.ReadMemStats(&after)
	assert.ErrorIs(t, err, rafs.ErrCorrupt)
	assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(8<<20), "bytes allocated for 64 MiB of zeros in %d bytes", bomb.Len())
}

// A failure in one chunk's bytes is that chunk's alone.
func TestBadChunkAmongGoodOnes(t *testing.T) {
	contents := texts(3)
	source, chunks := pack(t, 0, contents...)
	chunks[1].Digest[0] ^= 1
	tree := view(t, source)
	release, err := tree.Load(t.Context(), chunks)
	defer release()
	assert.ErrorIs(t, err, ErrDigest)
	assert.ErrorContains(t, err, "chunk 1 of blob b")
	for _, i := range []int{0, 2} {
		data, err := tree.ReadChunk(&chunks[i])
		require.NoError(t, err)
		assert.Equal(t, contents[i], data)
	}
	assert.Len(t, source.asked(), 1)
}

// However many gaps are fetched along, so many are kept: each chunk is looked for in
// all of them.
func TestSparesAreBounded(t *testing.T) {
	const size = 2 * maxSpares
	r := NewReader(nil)
	for _, blob := range []string{"a", "b"} {
		s := span{end: 2 * size}
		for n := range size {
			s.entries = append(s.entries, &entry{key: key{blob: blob, off: 2 * int64(n), stored: 1}})
		}
		r.keepSpares(s, make([]byte, s.end))
		assert.Len(t, r.spares[blob], maxSpares)
	}
	large := span{end: maxSpare, entries: []*entry{{key: key{blob: "c", stored: 1}}, {key: key{blob: "c", off: maxSpare - 1, stored: 1}}}}
	r.keepSpares(large, make([]byte, maxSpare))
	assert.Empty(t, r.spares["c"])
	assert.LessOrEqual(t, r.spareBytes, int64(maxSpare))
}

// TestChunkDecodedAnotherWay: the same stored bytes are two chunks where one image, or one
// of its trees, says that they are decoded in another way.
func TestChunkDecodedAnotherWay(t *testing.T) {
	content := bytes.Repeat([]byte("content "), 100)
	encoder, err := zstd.NewWriter(nil)
	require.NoError(t, err)
	// As long as what it holds, by a frame that decoders skip.
	stored := encoder.EncodeAll(content, nil)
	rest := len(content) - len(stored) - 8
	stored = binary.LittleEndian.AppendUint32(stored, 0x184D2A50)
	stored = binary.LittleEndian.AppendUint32(stored, uint32(rest))
	stored = append(stored, make([]byte, rest)...)
	compressed := rafs.Chunk{
		Flags: rafs.ChunkCompressed, CompressedSize: uint32(len(content)), UncompressedSize: uint32(len(content)),
		Digest: sha256.Sum256(content), HasDigest: true,
	}
	plain := compressed
	plain.Flags = 0

	r := NewReader(map[string]Source{"b": &memory{data: stored}})
	tree := func(compressor rafs.Compressor, digester rafs.Digester) *TreeReader {
		return r.Tree(t.Context(), []rafs.Blob{{ID: "b", Compressor: compressor, Digester: digester}}, "")
	}
	sound := tree(rafs.CompressorZstd, rafs.SHA256)
	release, err := sound.Load(t.Context(), []rafs.Chunk{compressed})
	require.NoError(t, err)
	defer release()
	data, err := sound.ReadChunk(&compressed)
	require.NoError(t, err)
	assert.Equal(t, content, data)
	_, err = sound.ReadChunk(&plain)
	assert.ErrorIs(t, err, ErrDigest)
	_, err = tree(rafs.CompressorLZ4, rafs.SHA256).ReadChunk(&compressed)
	assert.Error(t, err)
	_, err = tree(rafs.CompressorZstd, rafs.Blake3).ReadChunk(&compressed)
	assert.ErrorIs(t, err, ErrDigest)
}
