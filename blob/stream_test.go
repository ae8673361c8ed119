package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func digestOf(data []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(data)) }

func stream(t *testing.T, source Source, digest string) ([]byte, error) {
	t.Helper()
	s := NewStream(t.Context(), source, digest)
	defer func() { assert.NoError(t, s.Close()) }()
	data, err := io.ReadAll(s)
	if err == nil {
		assert.Equal(t, source.Size(), s.Offset())
	}
	return data, err
}

// cutShort answers a range with no more than n of its bytes, then breaks.
func cutShort(data []byte, n int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var off int
		if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &off); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		partial(fmt.Sprintf("bytes %d-%d/%d", off, len(data)-1, len(data)), len(data)-off, data[off:min(off+n, len(data))], broken)(w, r)
	}
}

func TestStream(t *testing.T) {
	data := noise(3*streamWindow + 7)
	t.Run("one request", func(t *testing.T) {
		s := serve(t, data)
		got, err := stream(t, s.source(t, len(data), nil), digestOf(data))
		require.NoError(t, err)
		assert.True(t, bytes.Equal(data, got))
		assert.Equal(t, []string{"0-"}, s.asked())
	})
	t.Run("resumed", func(t *testing.T) {
		s := serve(t, data, cutShort(data, 1000), status(http.StatusServiceUnavailable), cutShort(data, streamWindow))
		got, err := stream(t, s.source(t, len(data), nil), digestOf(data))
		require.NoError(t, err)
		assert.True(t, bytes.Equal(data, got))
		assert.Equal(t, []string{"0-", "1000-", "1000-", fmt.Sprintf("%d-", 1000+streamWindow)}, s.asked())
	})
	t.Run("in more pieces than failures are allowed", func(t *testing.T) {
		long := noise((resumes + 3) * resumeProgress)
		s := serve(t, long, repeat(resumes+2, cutShort(long, resumeProgress))...)
		got, err := stream(t, s.source(t, len(long), nil), digestOf(long))
		require.NoError(t, err)
		assert.True(t, bytes.Equal(long, got))
	})
	t.Run("fewer bytes than asked for", func(t *testing.T) {
		s := serve(t, data, partial(fmt.Sprintf("bytes 0-9/%d", len(data)), 10, data[:10], nil))
		got, err := stream(t, s.source(t, len(data), nil), digestOf(data))
		require.NoError(t, err)
		assert.True(t, bytes.Equal(data, got))
	})
	t.Run("no ranges", func(t *testing.T) {
		t.Setenv("TMPDIR", "/no/such/folder") // nothing is stored
		s := serve(t, data, whole(len(data), data[:5000]), whole(-1, data))
		noticed := false
		got, err := stream(t, s.source(t, len(data), func(string) { noticed = true }), digestOf(data))
		require.NoError(t, err)
		assert.True(t, bytes.Equal(data, got))
		assert.Equal(t, []string{"0-", "5000-"}, s.asked())
		assert.False(t, noticed)
	})
	t.Run("after a download", func(t *testing.T) {
		s := serve(t, data, whole(len(data), data))
		source := s.source(t, len(data), nil)
		require.NoError(t, source.ReadRange(t.Context(), make([]byte, 10), 5))
		got, err := stream(t, source, digestOf(data))
		require.NoError(t, err)
		assert.True(t, bytes.Equal(data, got))
		assert.Len(t, s.asked(), 1)
	})
	t.Run("of a file", func(t *testing.T) {
		got, err := stream(t, FileSource(bytes.NewReader(data)), digestOf(data))
		require.NoError(t, err)
		assert.True(t, bytes.Equal(data, got))
	})
	t.Run("empty", func(t *testing.T) {
		s := serve(t, nil)
		got, err := stream(t, s.source(t, 0, nil), digestOf(nil))
		require.NoError(t, err)
		assert.Empty(t, got)
		assert.Empty(t, s.asked())
	})
}

func TestStreamFails(t *testing.T) {
	data := noise(100_000)
	other := bytes.Clone(data)
	other[77_777] ^= 1
	for name, test := range map[string]struct {
		faults []http.HandlerFunc
		size   int
		is     error
		says   string
	}{
		"other bytes":    {[]http.HandlerFunc{partial("bytes 0-99999/100000", 100_000, other, nil)}, len(data), ErrDigest, "hash to"},
		"gets nowhere":   {repeat(resumes+1, cutShort(data, 10)), len(data), ErrIncomplete, "broke off"},
		"missing":        {[]http.HandlerFunc{status(http.StatusNotFound)}, len(data), ErrIncomplete, "missing from the registry"},
		"other place":    {[]http.HandlerFunc{partial("bytes 1-99999/100000", 99_999, data[1:], nil)}, len(data), ErrIncomplete, "the answer is for"},
		"shorter":        {nil, len(data) + 1, ErrIncomplete, "the answer is for"},
		"longer":         {nil, len(data) - 1, ErrIncomplete, "the answer is for"},
		"shorter, whole": {[]http.HandlerFunc{whole(len(data), data)}, len(data) + 1, ErrIncomplete, "for a blob of"},
		"whole, goes on": {[]http.HandlerFunc{whole(-1, append(bytes.Clone(data), data...))}, len(data) + 1, ErrDigest, "hash to"},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, data, test.faults...)
			got, err := stream(t, s.source(t, test.size, nil), digestOf(data))
			require.ErrorIs(t, err, test.is)
			assert.ErrorContains(t, err, test.says)
			assert.LessOrEqual(t, len(got), test.size)
		})
	}
}

func TestStreamEndsWithItsContext(t *testing.T) {
	s := serve(t, noise(100_000), hang)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := io.ReadAll(NewStream(ctx, s.source(t, 100_000, nil), "sha256:"+strings.Repeat("0", 64)))
	assert.ErrorIs(t, err, context.DeadlineExceeded)
}

// BenchmarkStream compares the one request of a stream with ranges one after the
// other.
func BenchmarkStream(b *testing.B) {
	data := noise(64 << 20)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	}))
	defer server.Close()
	address, err := url.Parse(server.URL)
	require.NoError(b, err)
	digest, buffer := digestOf(data), make([]byte, 128<<10)
	whole := NewServer(Retry(server.Client().Transport), nil, nil).Blob(address, int64(len(data)))
	for name, source := range map[string]Source{"one request": whole, "ranges": struct{ Source }{whole}} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				stream := NewStream(b.Context(), source, digest)
				_, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, stream, buffer)
				require.NoError(b, err)
				require.NoError(b, stream.Close())
			}
		})
	}
}
