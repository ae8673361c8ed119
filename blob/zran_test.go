package blob

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"math/bits"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// TestEmptyBlocks inflates what leads to each bit of a byte.
func TestEmptyBlocks(t *testing.T) {
	for used := uint8(1); used < 8; used++ {
		b := newStream(emptyBlocks(used), used)
		b.literals("data", true)
		assert.Equal(t, "data", inflated(t, b.bytes), "%d bits", used)
	}
}

// newStream goes on behind the low bits of the last byte.
func newStream(prefix []byte, used uint8) *bitWriter {
	return &bitWriter{bytes: prefix, count: uint(len(prefix)-1)*8 + uint(used)}
}

func inflated(t testing.TB, stream []byte) string {
	t.Helper()
	out, err := io.ReadAll(flate.NewReader(bytes.NewReader(stream)))
	require.NoError(t, err)
	return string(out)
}

// literals writes a block with the codes that deflate defines, of ASCII text.
func (b *bitWriter) literals(text string, last bool) {
	b.blockHeader(1, last)
	for _, c := range []byte(text) {
		b.write(uint(bits.Reverse8(0x30+c)), 8)
	}
	b.write(0, 7)
}

// back writes a block that repeats three bytes, from 1 to 4 bytes before.
func (b *bitWriter) back(distance uint, last bool) {
	b.blockHeader(1, last)
	b.write(uint(bits.Reverse8(1)>>1), 7) // length 3
	b.write(uint(bits.Reverse8(uint8(distance-1))>>3), 5)
	b.write(0, 7)
}

// stored writes a block that is not compressed: it begins with a byte.
func (b *bitWriter) stored(text string, last bool) {
	b.blockHeader(0, last)
	b.count = (b.count + 7) / 8 * 8
	b.write(uint(len(text)), 16)
	b.write(uint(^len(text))&0xffff, 16)
	for _, c := range []byte(text) {
		b.write(uint(c), 8)
	}
}

func (b *bitWriter) blockHeader(kind uint, last bool) {
	final := uint(0)
	if last {
		final = 1
	}
	b.write(final, 1)
	b.write(kind, 2)
}

// TestZranFromEveryBit inflates a stream from each bit of a byte on, through blocks
// of all kinds that matter and into the members that follow.
func TestZranFromEveryBit(t *testing.T) {
	var second bytes.Buffer
	w := gzip.NewWriter(&second)
	w.Name, w.Comment, w.Extra = "a name", "a comment", []byte("more")
	_, err := w.Write([]byte("second"))
	require.NoError(t, err)
	require.NoError(t, w.Close())

	for skipped := uint(0); skipped < 8; skipped++ {
		t.Run(fmt.Sprint(skipped), func(t *testing.T) {
			b := &bitWriter{}
			b.write(0xff, skipped) // of the block before
			b.back(3, false)
			b.literals("literals,", false)
			b.stored("stored,", false)
			b.literals("", false)
			b.stored("", false)
			b.literals("last,", true)
			const want = "ceDliterals,stored,last,"
			z := zranCodec{dictionary: []byte("sliceD")}
			stream := b.bytes
			if skipped > 0 {
				z.before, z.bits = stream[0], uint8(8-skipped)
				stream = stream[1:]
			}
			member := append(bytes.Clone(stream), "trailer."...)
			whole := append(append(bytes.Clone(member), second.Bytes()...), second.Bytes()...)

			for size := range len(want) + 1 {
				got, err := z.decode(member, size)
				require.NoError(t, err)
				assert.Equal(t, want[:size], string(got))
			}
			for _, size := range []int{len(want) + 1, len(want) + len("second"), len(want) + 2*len("second")} {
				got, err := z.decode(whole, size)
				require.NoError(t, err)
				assert.Equal(t, (want + "secondsecond")[:size], string(got))
			}
			for _, cut := range [][]byte{member, whole[:len(member)+2], stream, stream[:len(stream)-1], append(bytes.Clone(member), "no member at all"...)} {
				_, err := z.decode(cut, len(want)+1)
				assert.ErrorIs(t, err, rafs.ErrCorrupt)
			}
			_, err := z.decode(whole, len(want)+2*len("second")+1)
			assert.ErrorIs(t, err, rafs.ErrCorrupt)
		})
	}
}

// A slice that gives more than it should costs no memory for it.
func TestZranIsBounded(t *testing.T) {
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	for range 64 {
		_, err := w.Write(make([]byte, 1<<20))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	bomb := packed.Bytes()[10:]
	_, err := zranCodec{}.decode(bomb, 1000) // its first use makes an inflater
	require.NoError(t, err)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	got, err := zranCodec{}.decode(bomb, 1000)
	runtime.ReadMemStats(&after)
	require.NoError(t, err)
	assert.Len(t, got, 1000)
	assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20), "bytes allocated")
}

// TestGzipChunks reads chunks of a legacy stargz layer, of which nothing says how
// long they are.
func TestGzipChunks(t *testing.T) {
	contents := append(texts(5), noise(50_000), []byte(strings.Repeat("x", 1_000_000)))
	var blob []byte
	var chunks []rafs.Chunk
	for i, content := range contents {
		chunks = append(chunks, rafs.Chunk{
			Index: uint32(i), Flags: rafs.ChunkCompressed, CompressedOffset: uint64(len(blob)),
			UncompressedSize: uint32(len(content)), Digest: sha256.Sum256(content), HasDigest: true,
		})
		var member bytes.Buffer
		w := gzip.NewWriter(&member)
		_, err := w.Write(append(content, "padding of the tar"...))
		require.NoError(t, err)
		require.NoError(t, w.Close())
		blob = append(blob, member.Bytes()...)
	}
	r := NewReader(map[string]Source{"b": &memory{data: blob}})
	tree := r.Tree(t.Context(), []rafs.Blob{{ID: "b", Compressor: rafs.CompressorGzip, Digester: rafs.SHA256}}, "")
	release, err := tree.Load(t.Context(), chunks)
	require.NoError(t, err)
	defer release()
	for i := range chunks {
		data, err := tree.ReadChunk(&chunks[i])
		require.NoError(t, err)
		assert.Equal(t, contents[i], data)
	}
	for name, change := range map[string]func(*rafs.Chunk){
		"elsewhere":       func(c *rafs.Chunk) { c.CompressedOffset++ },
		"longer":          func(c *rafs.Chunk) { c.UncompressedSize = 100_000 },
		"behind the blob": func(c *rafs.Chunk) { c.CompressedOffset = uint64(len(blob)) },
	} {
		c := chunks[0]
		change(&c)
		_, err := tree.ReadChunk(&c)
		assert.ErrorIs(t, err, rafs.ErrCorrupt, name)
	}
	c := chunks[0]
	c.CompressedOffset = uint64(len(blob)) + 1
	_, err = tree.ReadChunk(&c)
	assert.ErrorIs(t, err, ErrIncomplete, "far behind the blob")
}
