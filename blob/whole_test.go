package blob

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// get reads the server's blob without a range, as manifests and tokens are read.
func get(t *testing.T, s *server) (*http.Response, []byte, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, nil)
	require.NoError(t, err)
	resp, err := Retry(s.Client().Transport).RoundTrip(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err, "the answer is there when it is returned")
	return resp, body, nil
}

func TestWholeAnswers(t *testing.T) {
	data := noise(5000)
	t.Run("a body that breaks off is asked for again", func(t *testing.T) {
		s := serve(t, data, whole(len(data), data[:100]), broken, whole(len(data), data[:4999]))
		_, body, err := get(t, s)
		require.NoError(t, err)
		assert.True(t, bytes.Equal(data, body))
		assert.Len(t, s.asked(), 4)
	})
	t.Run("always", func(t *testing.T) {
		s := serve(t, data, repeat(20, whole(len(data), data[:100]))...)
		_, _, err := get(t, s)
		assert.ErrorIs(t, err, errBroken)
		assert.Len(t, s.asked(), maxAttempts)
	})
	t.Run("without end", func(t *testing.T) {
		s := serve(t, data, repeat(20, endless)...)
		_, _, err := get(t, s)
		assert.ErrorContains(t, err, "sends more than 16777216 bytes")
		assert.Len(t, s.asked(), 1)
	})
	t.Run("an error without end", func(t *testing.T) {
		s := serve(t, data, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(404); endless(w, r) })
		resp, body, err := get(t, s)
		require.NoError(t, err)
		assert.Equal(t, 404, resp.StatusCode)
		assert.Len(t, body, maxRefusal)
	})
	t.Run("an error that breaks off", func(t *testing.T) {
		s := serve(t, data, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100")
			w.WriteHeader(403)
			io.WriteString(w, "no")
			w.(http.Flusher).Flush()
			broken(w, r)
		})
		resp, _, err := get(t, s)
		require.NoError(t, err)
		assert.Equal(t, 403, resp.StatusCode)
		assert.Len(t, s.asked(), 1)
	})
}

// TestWaitError: when the time is up, the error says what was waited for.
func TestWaitError(t *testing.T) {
	data := noise(1000)
	for _, c := range []struct {
		name   string
		faults []http.HandlerFunc
		says   string
	}{
		{"no answer", []http.HandlerFunc{hang}, "enough, waiting for HOST"},
		{"a body that stops", []http.HandlerFunc{partial("bytes 0-9/1000", 10, data[:5], hang)}, "enough, waiting for HOST"},
		{"between attempts", []http.HandlerFunc{status(503), hang}, "enough, waiting for HOST: HOST answered 503 Service Unavailable"},
		{"between resumes", append(repeat(3, partial("bytes 0-9/1000", 10, nil, broken)), hang), "enough, waiting for HOST"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			enough := errors.New("enough")
			s := serve(t, data, c.faults...)
			h := s.source(t, len(data), nil)
			ended := make(chan error)
			go func() { ended <- h.ReadRange(ctx, make([]byte, 10), 0) }()
			require.Eventually(t, func() bool { return len(s.asked()) == len(c.faults) }, 10*time.Second, time.Millisecond)
			cancel(enough)
			err := <-ended
			assert.ErrorIs(t, err, enough)
			assert.Equal(t, c.says, strings.ReplaceAll(err.Error(), strings.TrimPrefix(s.URL, "http://"), "HOST"))
		})
	}
}
