package blob

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"time"
)

// The back-off of requests to a registry. A request is tried maxAttempts
// times: with waits of 0.25 s, 0.5 s, … that rides out a restart of some
// seconds, and fails a scan of a dead registry within a quarter of a minute.
const (
	maxAttempts   = 6
	refusedMax    = 4 // attempts where nothing listens: mostly a wrong address
	firstWait     = 250 * time.Millisecond
	longestWait   = 8 * time.Second
	retryAfterMax = time.Minute // a registry may ask for more; a pipeline should not hang on it
)

// Retry returns a transport that repeats GET and HEAD requests which failed in
// a way that may pass: connection errors, 429 and 5xx but 501. It waits
// between attempts, as long as the answer's Retry-After asks where it has one.
// The last answer or error is returned as it came.
func Retry(inner http.RoundTripper) http.RoundTripper { return &retryTransport{inner: inner} }

type retryTransport struct{ inner http.RoundTripper }

func (t *retryTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		return t.inner.RoundTrip(req)
	}
	for attempt := 1; ; attempt++ {
		resp, err := t.inner.RoundTrip(req)
		if attempt == maxAttempts || attempt == refusedMax && errors.Is(err, syscall.ECONNREFUSED) || !passing(resp, err) {
			return resp, err
		}
		wait := backoff(attempt)
		if resp != nil {
			if after, ok := retryAfter(resp); ok {
				wait = after
			}
			// Draining lets the connection be used again; a body that does not
			// end is cut off.
			_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
			resp.Body.Close()
		}
		if err := sleep(req.Context(), wait); err != nil {
			return nil, err
		}
	}
}

// A permanentError is a transport's refusal that no repetition changes.
type permanentError interface{ Permanent() bool }

// passing says whether a failure may pass with time.
func passing(resp *http.Response, err error) bool {
	if err != nil {
		var permanent permanentError
		if errors.As(err, &permanent) && permanent.Permanent() {
			return false
		}
		var lookup *net.DNSError
		if errors.As(err, &lookup) && lookup.IsNotFound {
			return false
		}
		return !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) && !isHandshakeError(err)
	}
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusRequestTimeout:
		return true
	case http.StatusNotImplemented:
		return false
	}
	return resp.StatusCode >= 500
}

// backoff gives the wait after the given attempt (1 is the first): doubled
// each time, with up to a quarter of jitter so that parallel requests spread.
func backoff(attempt int) time.Duration {
	wait := min(firstWait<<(attempt-1), longestWait)
	return wait + rand.N(wait/4)
}

// retryAfter reads a Retry-After header, in seconds or as a date.
func retryAfter(resp *http.Response) (time.Duration, bool) {
	value := resp.Header.Get("Retry-After")
	if value == "" {
		return 0, false
	}
	if seconds, err := strconv.Atoi(value); err == nil && seconds >= 0 {
		return min(time.Duration(seconds)*time.Second, retryAfterMax), true
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(time.Until(at), 0), retryAfterMax), true
	}
	return 0, false
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
