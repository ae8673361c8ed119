package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A script is a transport that gives one answer after the other, the last one
// for ever.
type script struct {
	answers []any // an error, a status code, or an *http.Response
	asked   int
}

func (s *script) RoundTrip(req *http.Request) (*http.Response, error) {
	answer := s.answers[min(s.asked, len(s.answers)-1)]
	s.asked++
	if req.Body != nil { // as a transport does
		defer req.Body.Close()
		if body, err := io.ReadAll(req.Body); err != nil || string(body) != "grant_type=refresh_token" {
			return nil, fmt.Errorf("the body is %q, %v", body, err)
		}
	}
	switch answer := answer.(type) {
	case error:
		return nil, answer
	case *http.Response:
		answer.Body = io.NopCloser(strings.NewReader("body"))
		return answer, nil
	}
	return &http.Response{StatusCode: answer.(int), Body: io.NopCloser(strings.NewReader("body")), Request: req}, nil
}

func tryLater(code int, after string) *http.Response {
	return &http.Response{StatusCode: code, Header: http.Header{"Retry-After": {after}}}
}

type refusal struct{}

func (refusal) Error() string   { return "refused here" }
func (refusal) Permanent() bool { return true }

func TestRetry(t *testing.T) {
	reset := &net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}
	refused := &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	timeout := &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}
	// All waits of 0.25 s, doubled five times, are 7.75 s, and a quarter more
	// with the longest jitter.
	all := [2]time.Duration{7750 * time.Millisecond, 9700 * time.Millisecond}
	first := [2]time.Duration{250 * time.Millisecond, 313 * time.Millisecond}
	none := [2]time.Duration{}
	for _, c := range []struct {
		name    string
		method  string
		answers []any
		asked   int
		waited  [2]time.Duration // at least and at most
		gives   any              // a status code or an error
	}{
		{"200", "GET", []any{200}, 1, none, 200},
		{"500 passes", "GET", []any{500, 200}, 2, first, 200},
		{"502 passes", "HEAD", []any{502, 200}, 2, first, 200},
		{"503 passes", "GET", []any{503, 206}, 2, first, 206},
		{"504 passes", "GET", []any{504, 200}, 2, first, 200},
		{"408 passes", "GET", []any{408, 200}, 2, first, 200},
		{"500 stays", "GET", []any{500}, 6, all, 500},
		{"the last answer is given", "GET", []any{500, 500, 502, 503, 500, 504}, 6, all, 504},
		{"501 is final", "GET", []any{501}, 1, none, 501},
		{"404 is final", "GET", []any{404}, 1, none, 404},
		{"401 is final", "GET", []any{401}, 1, none, 401},
		{"a POST is not repeated", "POST", []any{503}, 1, none, 503},
		{"a PUT is not repeated", "PUT", []any{reset}, 1, none, reset},
		{"429 with seconds", "GET", []any{tryLater(429, "3"), 200}, 2, [2]time.Duration{3 * time.Second, 3 * time.Second}, 200},
		{"503 with seconds", "GET", []any{tryLater(503, "7"), 200}, 2, [2]time.Duration{7 * time.Second, 7 * time.Second}, 200},
		// In the bubble it is midnight, 1 January 2000.
		{"429 with a date", "GET", []any{tryLater(429, "Sat, 01 Jan 2000 00:00:09 GMT"), 200}, 2, [2]time.Duration{9 * time.Second, 9 * time.Second}, 200},
		{"429 with a date gone by", "GET", []any{tryLater(429, "Fri, 31 Dec 1999 00:00:00 GMT"), 200}, 2, first, 200},
		{"429 at once", "GET", []any{tryLater(429, "0"), 200}, 2, first, 200},
		{"429 with nonsense", "GET", []any{tryLater(429, "soon"), 200}, 2, first, 200},
		{"429 with a negative number", "GET", []any{tryLater(429, "-5"), 200}, 2, first, 200},
		{"429 for as long as is waited", "GET", []any{tryLater(429, "60"), 200}, 2, [2]time.Duration{time.Minute, time.Minute}, 200},
		{"429 for a day", "GET", []any{tryLater(429, "86400"), 200}, 1, none, nil},
		{"429 for longer than time has", "GET", []any{tryLater(429, "9999999999999"), 200}, 1, none, nil},
		{"429 until a day later", "GET", []any{tryLater(429, "Sun, 02 Jan 2000 00:00:00 GMT"), 200}, 1, none, nil},
		{"429 for a minute again and again", "GET", []any{tryLater(429, "60")}, 3, [2]time.Duration{2 * time.Minute, 2 * time.Minute}, nil},
		{"a POST whose body is there again", "POST with a body", []any{503, reset, 200}, 3, [2]time.Duration{750 * time.Millisecond, time.Second}, 200},
		{"a POST that is refused", "POST with a body", []any{401}, 1, none, 401},
		{"a reset connection", "GET", []any{reset, reset, 200}, 3, [2]time.Duration{750 * time.Millisecond, time.Second}, 200},
		{"a connection that is always reset", "GET", []any{reset}, 6, all, reset},
		{"nothing listens", "GET", []any{refused}, 4, [2]time.Duration{1750 * time.Millisecond, 2200 * time.Millisecond}, refused},
		{"nothing listens yet", "GET", []any{503, 503, 503, 503, refused, 200}, 5, [2]time.Duration{3750 * time.Millisecond, 4700 * time.Millisecond}, refused},
		{"a connection that times out", "GET", []any{timeout}, 2, first, timeout},
		{"an unknown name", "GET", []any{&net.DNSError{IsNotFound: true}}, 1, none, &net.DNSError{IsNotFound: true}},
		{"a name server that is away", "GET", []any{&net.DNSError{IsTemporary: true}, 200}, 2, first, 200},
		{"a refusal of our own", "GET", []any{fmt.Errorf("wrapped: %w", refusal{})}, 1, none, refusal{}},
		{"another TLS", "GET", []any{&net.OpError{Op: "remote error", Err: errors.New("tls: certificate required")}}, 1, none, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				set(t, &firstWait, 250*time.Millisecond)
				inner := &script{answers: c.answers}
				start := time.Now()
				resp, err := Retry(inner).RoundTrip(request(t, c.method))
				waited := time.Since(start)
				assert.Equal(t, c.asked, inner.asked, "requests")
				assert.True(t, waited >= c.waited[0] && waited <= c.waited[1], "waited %v, not %v", waited, c.waited)
				switch want := c.gives.(type) {
				case int:
					require.NoError(t, err)
					assert.Equal(t, want, resp.StatusCode)
					body, err := io.ReadAll(resp.Body)
					assert.NoError(t, err)
					assert.Equal(t, "body", string(body))
					resp.Body.Close()
				case error:
					var lookup *net.DNSError
					assert.True(t, errors.Is(err, want) || errors.As(err, &lookup), "error %v, not %v", err, want)
				default:
					assert.Error(t, err)
				}
			})
		})
	}
}

func request(t *testing.T, method string) *http.Request {
	t.Helper()
	var body io.Reader
	if method == "POST with a body" {
		method, body = "POST", strings.NewReader("grant_type=refresh_token")
	}
	req, err := http.NewRequestWithContext(t.Context(), method, "https://registry.test/v2/", body)
	require.NoError(t, err)
	return req
}

// A wait of a minute that the registry asked for ends with the context, and the
// watchdog leaves it alone.
func TestRetryWaitEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		inner := &script{answers: []any{tryLater(429, "60")}}
		ended := make(chan error)
		start := time.Now()
		go func() {
			_, err := Retry(inner).RoundTrip(request(t, "GET").WithContext(ctx))
			ended <- err
		}()
		time.Sleep(45 * time.Second)
		cause := errors.New("the user has had enough")
		cancel(cause)
		assert.ErrorIs(t, <-ended, cause)
		assert.Equal(t, 45*time.Second, time.Since(start))
		assert.Equal(t, 1, inner.asked)
	})
}

// A silent transport never answers.
type silent struct{ asked int }

func (s *silent) RoundTrip(req *http.Request) (*http.Response, error) {
	s.asked++
	<-req.Context().Done()
	return nil, req.Context().Err()
}

func TestRetryEndsStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := &silent{}
		start := time.Now()
		_, err := Retry(inner).RoundTrip(request(t, "GET"))
		assert.ErrorIs(t, err, errStalled)
		assert.Equal(t, 2, inner.asked)
		assert.Equal(t, 60, int(time.Since(start).Seconds()))
	})
}

// Bodies are watched while somebody reads them: a pause of the reader is none
// of the server's.
func TestRetryEndsStalledBodies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		defer w.Close()
		answer := &bodyTransport{r}
		resp, err := Retry(answer).RoundTrip(rangeRequest(t))
		require.NoError(t, err)
		defer resp.Body.Close()
		time.Sleep(time.Hour)
		go func() { w.Write([]byte("a")); time.Sleep(29 * time.Second); w.Write(make([]byte, stallBytes)) }()
		p := make([]byte, stallBytes)
		for _, want := range []int{1, stallBytes} {
			n, err := resp.Body.Read(p)
			require.NoError(t, err)
			assert.Equal(t, want, n)
		}
		start := time.Now()
		_, err = resp.Body.Read(p)
		assert.ErrorIs(t, err, errStalled)
		assert.Equal(t, stallTimeout, time.Since(start))
	})
}

// A server that drips bytes, each in time, is ended as one that gives none.
func TestRetryEndsDrips(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		defer w.Close()
		go func() {
			for {
				time.Sleep(time.Second)
				if _, err := w.Write([]byte("a")); err != nil {
					return
				}
			}
		}()
		resp, err := Retry(&bodyTransport{r}).RoundTrip(rangeRequest(t))
		require.NoError(t, err)
		defer resp.Body.Close()
		start := time.Now()
		n, err := io.Copy(io.Discard, resp.Body)
		assert.ErrorIs(t, err, errStalled)
		assert.Equal(t, stallTimeout, time.Since(start).Round(time.Second))
		assert.Less(t, n, int64(31))
		time.Sleep(time.Second) // the server's side ends
	})
}

// A slow link is no stall.
func TestRetryLeavesSlowBodies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		go func() {
			for range 100 {
				time.Sleep(time.Second)
				w.Write(make([]byte, 1<<10))
			}
			w.Close()
		}()
		resp, err := Retry(&bodyTransport{r}).RoundTrip(rangeRequest(t))
		require.NoError(t, err)
		defer resp.Body.Close()
		n, err := io.Copy(io.Discard, resp.Body)
		require.NoError(t, err)
		assert.Equal(t, int64(100<<10), n)
	})
}

func rangeRequest(t *testing.T) *http.Request {
	req := request(t, "GET")
	req.Header.Set("Range", "bytes=0-9")
	return req
}

// bodyTransport answers with a body that ends with the request, as net/http's do.
type bodyTransport struct{ body *io.PipeReader }

func (b *bodyTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	context.AfterFunc(req.Context(), func() { b.body.CloseWithError(req.Context().Err()) })
	return &http.Response{StatusCode: 200, Body: b.body}, nil
}
