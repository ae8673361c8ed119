package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A server gives data in ranges, as registries do, after the faults, one a
// request; a nil fault is none.
type server struct {
	*httptest.Server
	data []byte

	mu     sync.Mutex
	faults []http.HandlerFunc
	ranges []string // asked for
}

func serve(t *testing.T, data []byte, faults ...http.HandlerFunc) *server {
	t.Helper()
	s := &server{data: data, faults: faults}
	s.Server = httptest.NewServer(s)
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.ranges = append(s.ranges, strings.TrimPrefix(r.Header.Get("Range"), "bytes="))
	var fault http.HandlerFunc
	if len(s.faults) > 0 {
		fault, s.faults = s.faults[0], s.faults[1:]
	}
	s.mu.Unlock()
	if fault != nil {
		fault(w, r)
		return
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(s.data))
}

func (s *server) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ranges
}

// source is the server's blob, whose size is said to be size.
func (s *server) source(t *testing.T, size int, notice func(string)) *HTTP {
	t.Helper()
	address, err := url.Parse(s.URL + "/blob")
	require.NoError(t, err)
	h := NewServer(Retry(s.Client().Transport), notice, nil).Blob(address, int64(size))
	t.Cleanup(func() { assert.NoError(t, h.Close()) })
	return h
}

// noise is n bytes, the same each time.
func noise(n int) []byte {
	p := make([]byte, n)
	rand.NewChaCha8([32]byte{}).Read(p)
	return p
}

// The faults.
func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func broken(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

func location(to string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Location"] = []string{to}
		w.WriteHeader(http.StatusTemporaryRedirect)
	}
}

// partial answers 206 with the given Content-Range and body, then does what it
// is given.
func partial(contentRange string, length int, body []byte, then http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Range", contentRange)
		w.Header().Set("Content-Length", fmt.Sprint(length))
		w.WriteHeader(http.StatusPartialContent)
		w.Write(body)
		w.(http.Flusher).Flush()
		if then != nil {
			then(w, r)
		}
	}
}

// whole answers 200 with a length, which may be a lie, or -1 for none.
func whole(length int, body []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if length >= 0 {
			w.Header().Set("Content-Length", fmt.Sprint(length))
		}
		w.WriteHeader(http.StatusOK)
		w.Write(body)
		if len(body) < length {
			w.(http.Flusher).Flush()
			broken(w, r)
		}
	}
}

func endless(w http.ResponseWriter, r *http.Request) {
	for r.Context().Err() == nil {
		if _, err := w.Write(make([]byte, 4096)); err != nil {
			return
		}
	}
}

func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

func repeat(n int, fault http.HandlerFunc) []http.HandlerFunc {
	faults := make([]http.HandlerFunc, n)
	for i := range faults {
		faults[i] = fault
	}
	return faults
}

// TestHTTPFaults reads bytes 100 to 299 of a blob of 1000 from servers that
// misbehave.
func TestHTTPFaults(t *testing.T) {
	data := noise(1000)
	const asked = "100-299"
	for _, c := range []struct {
		name   string
		faults []http.HandlerFunc
		ranges []string
		err    string // "" for none
	}{
		{"none", nil, []string{asked}, ""},
		{"a body that breaks off is resumed", []http.HandlerFunc{partial("bytes 100-299/1000", 200, data[100:150], broken)}, []string{asked, "150-299"}, ""},
		{"twice", []http.HandlerFunc{
			partial("bytes 100-299/1000", 200, data[100:150], broken),
			partial("bytes 150-299/1000", 150, data[150:298], broken),
		}, []string{asked, "150-299", "298-299"}, ""},
		{"a body that always breaks off", repeat(6, partial("bytes 100-299/1000", 200, nil, broken)), []string{asked, asked, asked, asked, asked, asked},
			"read 200 bytes at 100: could not be read in full: the answer broke off after 0 of 200 bytes"},
		{"a part of the range is taken", []http.HandlerFunc{partial("bytes 100-149/1000", 50, data[100:150], nil)}, []string{asked, "150-299"}, ""},
		{"the total may be unknown", []http.HandlerFunc{partial("bytes 100-299/*", 200, data[100:300], nil)}, []string{asked}, ""},
		{"other bytes", []http.HandlerFunc{partial("bytes 0-199/1000", 200, data[:200], nil)}, []string{asked}, `asked for bytes 100-299/1000: the answer is for "bytes 0-199/1000"`},
		{"more bytes", []http.HandlerFunc{partial("bytes 100-300/1000", 201, data[100:301], nil)}, []string{asked}, "the answer is for"},
		{"another blob", []http.HandlerFunc{partial("bytes 100-299/2000", 200, data[100:300], nil)}, []string{asked}, "the answer is for"},
		{"no Content-Range", []http.HandlerFunc{partial("", 200, data[100:300], nil)}, []string{asked}, "the answer is for"},
		{"a Content-Range that ends before it begins", []http.HandlerFunc{partial("bytes 100-99/1000", 0, nil, nil)}, []string{asked}, "the answer is for"},
		{"401", []http.HandlerFunc{status(401)}, []string{asked}, "answered 401 Unauthorized: the credentials do not allow to pull it"},
		{"403", []http.HandlerFunc{status(403)}, []string{asked}, "answered 403 Forbidden: the credentials do not allow to pull it"},
		{"404", []http.HandlerFunc{status(404)}, []string{asked}, "answered 404 Not Found: the blob is missing from the registry"},
		{"416", []http.HandlerFunc{status(416)}, []string{asked}, "answered 416 Requested Range Not Satisfiable: the blob is shorter than the manifest says"},
		{"500 passes", []http.HandlerFunc{status(500), status(503)}, []string{asked, asked, asked}, ""},
		{"429 passes", []http.HandlerFunc{status(429)}, []string{asked, asked}, ""},
		{"502 stays", repeat(6, status(502)), []string{asked, asked, asked, asked, asked, asked}, "answered 502 Bad Gateway"},
		{"501", []http.HandlerFunc{status(501)}, []string{asked}, "answered 501 Not Implemented"},
		{"204", []http.HandlerFunc{status(204)}, []string{asked}, "answered 204 No Content"},
		{"a connection that breaks before the answer", []http.HandlerFunc{broken, broken}, []string{asked, asked, asked}, ""},
		{"200", []http.HandlerFunc{whole(1000, data)}, []string{asked}, ""},
		{"200 without a length", []http.HandlerFunc{whole(-1, data)}, []string{asked}, ""},
		{"200 that breaks off is asked for again", []http.HandlerFunc{whole(1000, data[:500]), whole(1000, data)}, []string{asked, asked}, ""},
		{"200 of another size", []http.HandlerFunc{whole(999, data[:999])}, []string{asked}, "has 999 bytes for a blob of 1000"},
		{"200 without an end", []http.HandlerFunc{endless}, []string{asked}, "sent more than the blob's 1000 bytes"},
		{"an error without an end", []http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(403); endless(w, r) }}, []string{asked}, "answered 403"},
		{"redirects without an end", repeat(6, location("/elsewhere")), []string{asked, asked, asked, asked, asked, asked}, "more than 5 redirects from 127.0.0.1"},
		{"five redirects", repeat(5, location("/elsewhere")), []string{asked, asked, asked, asked, asked, asked}, ""},
		{"a redirect without a target", []http.HandlerFunc{location("")}, []string{asked}, "redirects to nowhere"},
		{"a redirect to a file", []http.HandlerFunc{location("file:///etc/passwd")}, []string{asked}, "redirects to nowhere"},
		{"a redirect to a file of a host", []http.HandlerFunc{location("ftp://registry.test/blob")}, []string{asked}, "redirects to nowhere"},
		{"a redirect to a metadata service", []http.HandlerFunc{location("http://169.254.169.254/latest/meta-data")}, []string{asked}, "redirects to the private address 169.254.169.254, which is not followed"},
		{"a redirect to a metadata service, otherwise spelled", []http.HandlerFunc{location("http://[::ffff:169.254.169.254]/")}, []string{asked}, "not followed"},
		{"a redirect to a link", []http.HandlerFunc{location("http://[fe80::1%25eth0]/")}, []string{asked}, "not followed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("TMPDIR", t.TempDir())
			s := serve(t, data, c.faults...)
			h := s.source(t, len(data), nil)
			p := make([]byte, 200)
			err := h.ReadRange(t.Context(), p, 100)
			assert.Equal(t, c.ranges, s.asked())
			if c.err != "" {
				assert.ErrorContains(t, err, c.err)
				assert.ErrorIs(t, err, ErrIncomplete)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, data[100:300], p)
		})
	}
}

// TestHTTPMissingAndSize: that a blob is not there, or is another, is told from
// what may pass.
func TestHTTPMissingAndSize(t *testing.T) {
	data := noise(1000)
	for _, c := range []struct {
		name  string
		fault http.HandlerFunc
		is    error // nil for neither
	}{
		{"404", status(404), ErrMissing},
		{"416", status(416), ErrSize},
		{"a longer blob", partial("bytes 100-299/2000", 200, data[100:300], nil), ErrSize},
		{"a shorter blob", partial("bytes 100-199/200", 100, data[100:200], nil), ErrSize},
		{"a shorter blob, whole", whole(999, data[:999]), ErrSize},
		{"other bytes", partial("bytes 0-199/1000", 200, data[:200], nil), nil},
		{"403", status(403), nil},
		{"501", status(501), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := serve(t, data, c.fault).source(t, len(data), nil).ReadRange(t.Context(), make([]byte, 200), 100)
			require.ErrorIs(t, err, ErrIncomplete)
			for _, kind := range []error{ErrMissing, ErrSize} {
				assert.Equal(t, kind == c.is, errors.Is(err, kind), "%v: %v", kind, err)
			}
		})
	}
}

func TestHTTPStalls(t *testing.T) {
	data := noise(1000)
	for name, c := range map[string]struct {
		fault  http.HandlerFunc
		ranges []string
	}{
		"before the answer": {hang, []string{"100-299", "100-299"}},
		"in the body":       {partial("bytes 100-299/1000", 200, data[100:120], hang), []string{"100-299", "120-299"}},
	} {
		t.Run(name, func(t *testing.T) {
			set(t, &stallTimeout, 50*time.Millisecond)
			s := serve(t, data, c.fault)
			p := make([]byte, 200)
			require.NoError(t, s.source(t, len(data), nil).ReadRange(t.Context(), p, 100))
			assert.Equal(t, data[100:300], p)
			assert.Equal(t, c.ranges, s.asked())
		})
	}
}

func TestHTTPRangesOutside(t *testing.T) {
	s := serve(t, nil)
	h := s.source(t, 1000, nil)
	for _, c := range []struct {
		off int64
		n   int
	}{{-1, 1}, {1000, 1}, {999, 2}, {1 << 62, 1}} {
		err := h.ReadRange(t.Context(), make([]byte, c.n), c.off)
		assert.ErrorIs(t, err, ErrIncomplete, "%d bytes at %d", c.n, c.off)
	}
	assert.NoError(t, h.ReadRange(t.Context(), nil, 1000))
	assert.Empty(t, s.asked(), "requests")
}

func TestHTTPCanceled(t *testing.T) {
	for name, fault := range map[string]http.HandlerFunc{
		"while it waits for the answer": hang,
		"while it waits for the body":   partial("bytes 100-299/1000", 200, make([]byte, 20), hang),
		"in a download of the whole": func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			hang(w, r)
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			cause := errors.New("interrupted")
			s := serve(t, nil, func(w http.ResponseWriter, r *http.Request) {
				time.AfterFunc(10*time.Millisecond, func() { cancel(cause) })
				fault(w, r)
			})
			err := s.source(t, 1000, nil).ReadRange(ctx, make([]byte, 200), 100)
			assert.ErrorIs(t, err, cause)
			assert.Len(t, s.asked(), 1)
		})
	}
}

// A blob of which the server has no ranges is downloaded once, whatever is read
// of it at once, and leaves nothing behind.
func TestHTTPWithoutRanges(t *testing.T) {
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	data := noise(24 << 20) // more than sockets buffer
	var mu sync.Mutex
	var complete int
	noRanges := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		if n, _ := io.Copy(w, bytes.NewReader(data)); n == int64(len(data)) {
			mu.Lock()
			complete++
			mu.Unlock()
		}
	}
	s := serve(t, data, repeat(1000, noRanges)...)
	var notices []string
	h := s.source(t, len(data), func(line string) { mu.Lock(); notices = append(notices, line); mu.Unlock() })

	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for _, off := range []int{i * 1000, len(data) - 1000*(i+1)} {
				p := make([]byte, 1000)
				if assert.NoError(t, h.ReadRange(t.Context(), p, int64(off))) {
					assert.True(t, bytes.Equal(data[off:off+1000], p), "1000 bytes at %d differ", off)
				}
			}
		})
	}
	group.Wait()
	before := len(s.asked())
	assert.LessOrEqual(t, before, 8, "requests")
	p := make([]byte, len(data))
	require.NoError(t, h.ReadRange(t.Context(), p, 0))
	assert.True(t, bytes.Equal(data, p), "the whole blob differs")
	assert.Len(t, s.asked(), before, "a download that is there is not made again")
	assert.NoError(t, h.Close())
	s.Close() // waits for its handlers
	assert.Equal(t, 1, complete, "downloads")
	assert.Equal(t, []string{strings.TrimPrefix(s.URL, "http://") + " has no ranges: downloading a blob of 25165824 bytes whole"}, notices)
	left, err := os.ReadDir(temporary)
	assert.NoError(t, err)
	assert.Empty(t, left)
}

// One that waits for another's download is not bound to it: neither by its own
// context nor by the other's failure.
func TestHTTPWaitsForDownload(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	data := noise(1000)
	begun := make(chan struct{})
	s := serve(t, data, func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		close(begun)
		hang(w, r)
	}, whole(1000, data))
	downloading := make(chan struct{})
	h := s.source(t, len(data), func(string) { close(downloading) })
	first, cancelFirst := context.WithCancel(t.Context())
	failed := make(chan error)
	go func() { failed <- h.ReadRange(first, make([]byte, 10), 10) }()
	<-begun
	<-downloading

	second, cancelSecond := context.WithCancel(t.Context())
	cancelSecond()
	assert.ErrorIs(t, h.ReadRange(second, make([]byte, 10), 10), context.Canceled)

	got := make(chan error)
	p := make([]byte, 10)
	go func() { got <- h.ReadRange(t.Context(), p, 20) }()
	cancelFirst()
	assert.ErrorIs(t, <-failed, context.Canceled)
	require.NoError(t, <-got)
	assert.Equal(t, data[20:30], p)
	assert.Len(t, s.asked(), 2)
}

// A server that gives all of a blob when all of it was asked for may well have
// ranges: nothing is stored and nobody told.
func TestHTTPWhole(t *testing.T) {
	data := noise(1000)
	s := serve(t, data, whole(1000, data))
	h := s.source(t, len(data), func(line string) { t.Errorf("notice %q", line) })
	p := make([]byte, 1000)
	require.NoError(t, h.ReadRange(t.Context(), p, 0))
	assert.Equal(t, data, p)
	require.NoError(t, h.ReadRange(t.Context(), p[:10], 990))
	assert.Equal(t, []string{"0-999", "990-999"}, s.asked())
}

// TestHTTPPresigned redirects to addresses on another server that work twice.
func TestHTTPPresigned(t *testing.T) {
	data := noise(1000)
	for name, expired := range map[string]http.HandlerFunc{
		"403 of S3":                         status(403),
		"400 of S3 for a token":             status(400),
		"404":                               status(404),
		"401":                               status(401),
		"a host that breaks the connection": broken,
		"500 that stays":                    status(500),
	} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			var issued, used int
			storage := serve(t, data)
			storage.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				assert.Empty(t, r.Header.Get("Authorization"))
				mu.Lock()
				good := r.URL.Query().Get("signature") == fmt.Sprint(issued) && used < 2
				used++
				mu.Unlock()
				if !good {
					expired(w, r)
					return
				}
				storage.ServeHTTP(w, r)
			})
			registry := serve(t, nil, repeat(10, func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				issued, used = issued+1, 0
				to := fmt.Sprintf("%s/blob?signature=%d", storage.URL, issued)
				mu.Unlock()
				location(to)(w, r)
			})...)
			h := registry.source(t, len(data), nil)
			for i := range 5 {
				p := make([]byte, 10)
				require.NoError(t, h.ReadRange(t.Context(), p, int64(i)*10))
				assert.Equal(t, data[i*10:][:10], p)
			}
			assert.Equal(t, []string{"0-9", "20-29", "40-49"}, registry.asked(), "asked of the registry")
		})
	}
}

// An address that never works is the registry's error, not a reason to go in
// circles.
func TestHTTPPresignedRefused(t *testing.T) {
	storage := serve(t, nil, repeat(10, status(403))...)
	registry := serve(t, nil, repeat(10, location(storage.URL+"/blob"))...)
	err := registry.source(t, 1000, nil).ReadRange(t.Context(), make([]byte, 10), 0)
	assert.ErrorContains(t, err, strings.TrimPrefix(storage.URL, "http://")+" answered 403")
	assert.Len(t, registry.asked(), 1)
	assert.Len(t, storage.asked(), 1)
}

func TestRedirectTargets(t *testing.T) {
	for _, c := range []struct {
		registry, to string
		refused      bool
	}{
		{"https://registry.test", "https://storage.test/blob?signature=1", false},
		{"https://registry.test", "/elsewhere", false},
		{"https://registry.test", "//cdn.test/blob", false},
		{"https://registry.test", "https://203.0.113.9/blob", false},
		{"https://registry.test", "http://10.0.0.1/blob", true},
		{"https://registry.test", "https://192.168.1.1/blob", true},
		{"https://registry.test", "https://127.0.0.1:6443/", true},
		{"https://registry.test", "https://localhost:6443/", true},
		{"https://registry.test", "https://x.localhost/", true},
		{"https://registry.test", "https://LOCALHOST:6443/", true},
		{"https://registry.test", "https://localhost.:6443/", true},
		{"https://registry.test", "https://x.LocalHost./", true},
		{"https://registry.test", "https://127.0.0.1./", true},
		{"https://registry.test", "https://[::1]/", true},
		{"https://registry.test", "https://[::ffff:10.0.0.1]/", true},
		{"https://registry.test", "https://0.0.0.0/", true},
		{"https://registry.test", "http://169.254.169.254/", true},
		{"https://registry.test", "https://[fe80::1%25eth0]/", true},
		{"https://registry.test", "https://100.64.0.1/", true},
		{"https://registry.test", "https://100.127.255.255/", true},
		{"https://registry.test", "https://100.128.0.1/", false},
		{"https://registry.test", "gopher://storage.test/", true},
		{"https://registry.test", "https://", true},
		// On premises: a registry with its storage beside it.
		{"https://10.0.0.2", "https://10.0.0.3:9000/blob", false},
		{"http://127.0.0.1:5000", "http://localhost:9000/blob", false},
		{"https://100.64.0.1", "https://10.0.0.3/", false},
		{"https://10.0.0.2", "http://169.254.169.254/", true},
		{"https://10.0.0.2", "http://100.100.100.200/", true},
		{"https://10.0.0.2", "http://192.0.0.192/", true},
		{"https://10.0.0.2", "http://168.63.129.16/", true},
		{"https://10.0.0.2", "http://[::ffff:168.63.129.16]/", true},
		{"https://10.0.0.2", "http://[fd00:ec2::254]/", true},
		{"https://Registry.test", "https://registry.test./elsewhere", false},
	} {
		origin, err := url.Parse(c.registry + "/v2/image/blobs/sha256:00")
		require.NoError(t, err)
		next, err := redirect(origin, origin, c.to)
		assert.Equal(t, c.refused, err != nil, "from %s to %s: %v, %v", c.registry, c.to, next, err)
	}
}
