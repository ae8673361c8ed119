package consistency

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"lukechampine.com/blake3"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

func TestHasherCuts(t *testing.T) {
	content := append(bytes.Repeat([]byte("0123456789"), 1000), make([]byte, 300)...)
	h := newHasher()
	whole, err := h.sum(bytes.NewReader(content), 10_300, &cut{size: 4096, digester: rafs.Blake3})
	require.NoError(t, err)
	assert.Equal(t, [][32]byte{blake3.Sum256(content[:4096]), blake3.Sum256(content[4096:8192]), blake3.Sum256(content[8192:])}, whole.values)

	own := &cut{pieces: []piece{{end: 5000, digester: rafs.SHA256}, {end: 10_000, digester: rafs.Blake3}, {end: 10_300, hole: true}}}
	pieces, err := h.sum(bytes.NewReader(content), 10_300, own)
	require.NoError(t, err)
	assert.Equal(t, [][32]byte{sha256.Sum256(content[:5000]), blake3.Sum256(content[5000:10_000]), {}}, pieces.values)

	content[10_299] = 7
	pieces, err = h.sum(bytes.NewReader(content), 10_300, own)
	require.NoError(t, err)
	assert.NotZero(t, pieces.values[2])

	_, err = h.sum(bytes.NewReader(content[:10_299]), 10_300, own)
	assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
	_, err = h.sum(bytes.NewReader(content), 10_300, &cut{size: 4096, digester: 7})
	assert.ErrorIs(t, err, rafs.ErrUnsupported)
}

// hashed is a node known by its sums, opened one whose content is read.
func hashed(t *testing.T, content string, c *cut) *Node {
	t.Helper()
	s, err := newHasher().sum(bytes.NewReader([]byte(content)), int64(len(content)), c)
	require.NoError(t, err)
	return &Node{Path: "f", Mode: typeRegular, Size: int64(len(content)), Links: 1, content: s}
}

func opened(content string, size int64) *Node {
	return &Node{Path: "f", Mode: typeRegular, Size: size, Links: 1, Open: func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader([]byte(content))), nil
	}}
}

func TestComparesWithWhatIsRead(t *testing.T) {
	c := &cut{pieces: []piece{{end: 4, digester: rafs.SHA256}, {end: 8, hole: true}, {end: 10, digester: rafs.Blake3}}}
	const content = "data\x00\x00\x00\x00da"
	for _, test := range []struct {
		name      string
		want, got *Node
		detail    string
		err       string
	}{
		{"equal sums", hashed(t, content, c), opened(content, 10), "", ""},
		{"first piece", hashed(t, content, c), opened("dato\x00\x00\x00\x00da", 10), "from byte 0 on, in chunk 1 of 3", ""},
		{"hole", hashed(t, content, c), opened("data\x00\x00\x01\x00da", 10), "from byte 4 on, in chunk 2 of 3", ""},
		{"last piece", hashed(t, content, c), opened("data\x00\x00\x00\x00do", 10), "from byte 8 on, in chunk 3 of 3", ""},
		{"two pieces", hashed(t, content, c), opened("dato\x00\x00\x00\x00do", 10), "from byte 0 on, in chunk 1 of 3; 2 chunks differ", ""},
		{"shorter than it says", hashed(t, content, c), opened("data\x00\x00\x00\x00d", 10), "", "unexpected EOF"},
		{"longer than it says", hashed(t, content, c), opened(content+"d", 10), "", "longer than its size"},
		{"equal bytes", opened(content, 10), opened(content, 10), "", ""},
		{"byte", opened(content, 10), opened("data\x00\x00\x00\x01da", 10), "from byte 7 on", ""},
		{"bytes, shorter", opened(content, 10), opened(content[:9], 10), "", "unexpected EOF"},
		{"bytes, longer", opened(content, 10), opened(content+"x", 10), "", "longer than its size"},
		{"nothing known", &Node{Path: "f", Mode: typeRegular, Size: 10}, opened(content, 10), "", "is not known"},
	} {
		t.Run(test.name, func(t *testing.T) {
			d, err := newHasher().compare(t.Context(), pair{test.want, test.got})
			if test.err != "" {
				require.ErrorContains(t, err, test.err)
				return
			}
			require.NoError(t, err)
			if test.detail == "" {
				assert.Nil(t, d)
				return
			}
			require.NotNil(t, d)
			assert.Equal(t, test.detail, d.Detail)
			assert.NotEqual(t, d.Want, d.Got)
		})
	}
}

// TestEndsWithItsContext even where nothing is read: in a file that is one hole.
func TestEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errBroken)
	_, err := newHasher().sum(&contextReader{ctx, endless{}}, 1<<60, &cut{size: 1 << 20, digester: rafs.Blake3})
	require.ErrorIs(t, err, errBroken)

	files := []pair{{opened("a", 1), opened("a", 1)}}
	require.ErrorIs(t, (&comparison{}).compareFiles(ctx, files), errBroken)
}

// brokenReader gives some bytes and then an error.
type brokenReader struct{ left int }

var errBroken = errors.New("broken")

func (b *brokenReader) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, errBroken
	}
	n := min(len(p), b.left, 1000)
	b.left -= n
	return n, nil
}

func TestReadAhead(t *testing.T) {
	for _, size := range []int{0, 1, aheadSize, aheadSize + 1, 10 * aheadSize} {
		content := bytes.Repeat([]byte("0123456"), size/7+1)[:size]
		a := newReadAhead(bytes.NewReader(content))
		got, err := io.ReadAll(a)
		require.NoError(t, err)
		assert.True(t, bytes.Equal(content, got), "%d bytes", size)
		a.close()

		a = newReadAhead(&brokenReader{size})
		n, err := io.Copy(io.Discard, a)
		assert.ErrorIs(t, err, errBroken)
		assert.EqualValues(t, size, n, "what came before the error is read")
		a.close()

		newReadAhead(bytes.NewReader(content)).close() // unread
	}
}
