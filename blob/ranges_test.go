package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// parts answers 206 with the given pieces of data, each as off and end.
func parts(data []byte, total int, pieces ...[2]int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		m := multipart.NewWriter(w)
		w.Header().Set("Content-Type", "multipart/byteranges; boundary="+m.Boundary())
		w.WriteHeader(http.StatusPartialContent)
		for _, p := range pieces {
			part, _ := m.CreatePart(textproto.MIMEHeader{"Content-Range": {fmt.Sprintf("bytes %d-%d/%d", p[0], p[1]-1, total)}})
			part.Write(data[p[0]:min(p[1], len(data))])
		}
		m.Close()
	}
}

// withoutEnd answers 206 with the beginning of several parts, and then the last text for ever.
func withoutEnd(texts ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "multipart/byteranges; boundary=b")
		w.WriteHeader(http.StatusPartialContent)
		for n := 0; r.Context().Err() == nil; n++ {
			if _, err := w.Write([]byte(texts[min(n, len(texts)-1)])); err != nil {
				return
			}
		}
	}
}

// cutOff answers as f does, but for all after the first n bytes.
func cutOff(n int, f http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		f(&cutWriter{w, n}, r)
	}
}

type cutWriter struct {
	http.ResponseWriter
	left int
}

func (w *cutWriter) Write(p []byte) (int, error) {
	n, _ := w.ResponseWriter.Write(p[:min(len(p), w.left)])
	if w.left -= n; w.left == 0 {
		w.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	return n, nil
}

// readAnyway reads ranges at once, or one by one from a server that gives them only so.
func readAnyway(ctx context.Context, h *HTTP, ranges []byteRange) error {
	err := readRanges(ctx, h, ranges)
	if errors.Is(err, errSingly) {
		err = readRanges(ctx, h, ranges)
	}
	return err
}

// Whatever a server makes of a request for several ranges, the bytes are right,
// and one that does not know such requests is not sent another.
func TestReadRanges(t *testing.T) {
	data := noise(10000)
	const list = "100-199,3000-3099,9900-9999"
	single := []string{list, "100-199", "3000-3099", "9900-9999"}
	for _, c := range []struct {
		name  string
		fault http.HandlerFunc
		asked []string
		still bool // it is asked so again
	}{
		{"parts", nil, []string{list}, true},
		{"parts with more in them", parts(data, 10000, [2]int{0, 5000}, [2]int{9000, 10000}), []string{list}, true},
		{"one part for all", parts(data, 10000, [2]int{0, 10000}), []string{list}, true},
		{"in another order", parts(data, 10000, [2]int{9900, 10000}, [2]int{100, 200}, [2]int{3000, 3100}), single, false},
		{"fewer parts", parts(data, 10000, [2]int{100, 200}), []string{list, "3000-3099", "9900-9999"}, true},
		{"parts of half a range", parts(data, 10000, [2]int{100, 150}, [2]int{150, 200}), single, false},
		{"parts outside the blob", parts(data, 10000, [2]int{100, 200}, [2]int{3000, 30000}), []string{list, "3000-3099", "9900-9999"}, false},
		{"parts of another blob", parts(data, 20000, [2]int{100, 200}), single, false},
		{"an answer that breaks off", cutOff(450, parts(data, 10000, [2]int{100, 200}, [2]int{3000, 3100}, [2]int{9900, 10000})), nil, true},
		{"one range", partial("bytes 100-199/10000", 100, data[100:200], nil), single, false},
		{"the whole blob", whole(10000, data), single, false},
		{"an endless blob", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(200); endless(w, r) }, single, false},
		{"an endless part", withoutEnd("--b\r\nContent-Range: bytes 100-199/10000\r\n\r\n" + string(data[100:200])), []string{list, "3000-3099", "9900-9999"}, false},
		{"endless lines before the first part", withoutEnd("\r\n"), single, false},
		{"endless headers of a part", withoutEnd("--b\r\n", "X: y\r\n"), single, false},
		{"no boundary", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "multipart/byteranges")
			w.WriteHeader(http.StatusPartialContent)
		}, single, true},
		{"400", status(400), single, false},
		{"416", status(416), single, false},
		{"403, of a proxy", status(403), single, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var faults []http.HandlerFunc
			if c.fault != nil {
				faults = append(faults, c.fault)
			}
			s := serve(t, data, faults...)
			h := s.source(t, len(data), nil)
			ranges := []byteRange{{100, make([]byte, 100)}, {3000, make([]byte, 100)}, {9900, make([]byte, 100)}}
			require.NoError(t, readAnyway(t.Context(), h, ranges))
			for _, r := range ranges {
				assert.Equal(t, data[r.off:][:100], r.data, "bytes at %d", r.off)
			}
			if c.asked != nil {
				assert.Equal(t, c.asked, s.asked())
			}
			assert.Equal(t, c.still, several(h))
		})
	}
}

func TestReadRangesFails(t *testing.T) {
	data := noise(10000)
	ranges := []byteRange{{100, make([]byte, 100)}, {3000, make([]byte, 100)}}
	gone := repeat(3, status(404))
	err := readAnyway(t.Context(), serve(t, data, gone...).source(t, len(data), nil), ranges)
	assert.ErrorIs(t, err, ErrMissing)
	assert.ErrorIs(t, err, ErrIncomplete)

	short := serve(t, data[:3050])
	assert.ErrorIs(t, readAnyway(t.Context(), short.source(t, len(data), nil), ranges), ErrIncomplete)

	outside := []byteRange{{100, make([]byte, 100)}, {9990, make([]byte, 100)}}
	s := serve(t, data)
	assert.ErrorIs(t, readRanges(t.Context(), s.source(t, len(data), nil), outside), ErrIncomplete)
	assert.Empty(t, s.asked(), "a range outside the blob is not asked for")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	assert.ErrorIs(t, readRanges(ctx, serve(t, data).source(t, len(data), nil), ranges), context.Canceled)
}

// A registry that gives up on several ranges is not waited for again, for others.
func TestReadRangesGivesUp(t *testing.T) {
	data := noise(10000)
	s := serve(t, data, repeat(100, broken)...)
	h := s.source(t, len(data), nil)
	ranges := []byteRange{{100, make([]byte, 100)}, {3000, make([]byte, 100)}}
	assert.ErrorIs(t, readRanges(t.Context(), h, ranges), ErrIncomplete)
	asked := len(s.asked())
	assert.ErrorContains(t, readRanges(t.Context(), h, ranges), "given up before")
	assert.ErrorContains(t, h.ReadRange(t.Context(), ranges[0].data, 100), "given up before")
	assert.Len(t, s.asked(), asked)
}

// Chunks that lie apart come by one request from a server that knows several
// ranges; from another the smaller gaps between them are fetched along.
func TestLoadAsksForSeveralRanges(t *testing.T) {
	contents := noises(20)
	for name, c := range map[string]struct {
		gap      int
		fault    []http.HandlerFunc
		requests int
	}{
		"several":             {5000, nil, 1},
		"single":              {requestGap, repeat(1, status(400)), 2},
		"single, large gaps":  {requestGap + 1, repeat(1, status(400)), 21},
		"several, large gaps": {requestGap + 1, nil, 1},
	} {
		t.Run(name, func(t *testing.T) {
			packed, chunks := pack(t, c.gap, contents...)
			s := serve(t, packed.data, c.fault...)
			tree := view(t, s.source(t, len(packed.data), nil))
			release, err := tree.Load(t.Context(), chunks)
			require.NoError(t, err)
			defer release()
			for i := range chunks {
				data, err := tree.ReadChunk(&chunks[i])
				require.NoError(t, err)
				assert.Equal(t, contents[i], data)
			}
			assert.Len(t, s.asked(), c.requests)
		})
	}
}

// What turns out for one blob counts for the others of the server, and the ranges are
// then asked for side by side.
func TestLoadAsksSingly(t *testing.T) {
	packed, chunks := pack(t, largeGap+1, noises(parallelRequests)...)
	var arrived sync.WaitGroup
	arrived.Add(parallelRequests)
	together := func(w http.ResponseWriter, r *http.Request) {
		arrived.Done()
		arrived.Wait()
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(packed.data))
	}
	s := serve(t, packed.data, append(repeat(1, status(400)), repeat(parallelRequests, together)...)...)
	first := s.source(t, len(packed.data), nil)
	load := func(source Source) {
		release, err := view(t, source).Load(t.Context(), chunks)
		require.NoError(t, err)
		release()
	}
	load(first)
	assert.Len(t, s.asked(), 1+len(chunks))
	load(first.server.Blob(first.origin, first.size))
	assert.Len(t, s.asked(), 1+2*len(chunks))
}

// What the parts of an answer hold is verified like all else.
func TestRangesAreVerified(t *testing.T) {
	packed, chunks := pack(t, 5000, noises(3)...)
	wrong := bytes.Clone(packed.data)
	wrong[chunks[1].CompressedOffset]++
	s := serve(t, wrong)
	tree := view(t, s.source(t, len(wrong), nil))
	release, err := tree.Load(t.Context(), chunks)
	release()
	assert.ErrorIs(t, err, ErrDigest)
	assert.ErrorContains(t, err, "chunk 1 of blob b")
}
