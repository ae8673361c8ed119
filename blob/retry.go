package blob

import (
	"context"
	"crypto/tls"
	"crypto/x509"
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
	stalledMax    = 2 // attempts where nothing comes back: each takes stallTimeout
	longestWait   = 8 * time.Second
	retryAfterMax = time.Minute // a registry may ask for more; a pipeline should not hang on it
)

// firstWait is the wait after the first attempt, doubled after each further
// one. It is a variable so that tests need not wait.
var firstWait = 250 * time.Millisecond

// Retry returns a transport that repeats GET and HEAD requests which failed in
// a way that may pass: connection errors, stalls, 429 and 5xx but 501. It waits
// between attempts, at least as long as the answer's Retry-After asks where it
// has one. The last answer or error is returned as it came. Requests and
// bodies of which no byte comes for half a minute are ended.
func Retry(inner http.RoundTripper) http.RoundTripper {
	return &retryTransport{inner: &watchdog{inner}}
}

type retryTransport struct{ inner http.RoundTripper }

func (t *retryTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		return t.inner.RoundTrip(req)
	}
	for attempt := 1; ; attempt++ {
		resp, err := t.inner.RoundTrip(req)
		if attempt >= attempts(err) || !passing(resp, err) {
			return resp, err
		}
		wait := backoff(attempt)
		if resp != nil {
			wait = max(wait, retryAfter(resp))
			drop(resp)
		}
		if err := sleep(req.Context(), wait); err != nil {
			return nil, err
		}
	}
}

// A permanentError is a transport's refusal that no repetition changes.
type permanentError interface{ Permanent() bool }

// attempts is how often a request is tried that ends with err, or with an
// answer if err is nil.
func attempts(err error) int {
	var network net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return refusedMax
	case errors.Is(err, errStalled), errors.As(err, &network) && network.Timeout():
		return stalledMax
	}
	return maxAttempts
}

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
		return !isHandshakeError(err)
	}
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusRequestTimeout:
		return true
	case http.StatusNotImplemented:
		return false
	}
	return resp.StatusCode >= 500
}

// isHandshakeError says whether the two ends cannot agree on TLS.
func isHandshakeError(err error) bool {
	var verification *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var authority x509.UnknownAuthorityError
	// An alert of either end, such as "certificate required", has this form.
	var alert *net.OpError
	return errors.Is(err, http.ErrSchemeMismatch) || errors.As(err, &verification) || errors.As(err, &record) || errors.As(err, &authority) ||
		errors.As(err, &alert) && (alert.Op == "remote error" || alert.Op == "local error")
}

// backoff gives the wait after the given attempt (1 is the first): doubled
// each time, with up to a quarter of jitter so that parallel requests spread.
func backoff(attempt int) time.Duration {
	wait := min(firstWait<<(attempt-1), longestWait)
	return wait + rand.N(wait/4)
}

// retryAfter reads a Retry-After header, in seconds or as a date; 0 where
// there is none.
func retryAfter(resp *http.Response) time.Duration {
	value := resp.Header.Get("Retry-After")
	if seconds, err := strconv.ParseUint(value, 10, 64); err == nil {
		return time.Duration(min(seconds, uint64(retryAfterMax/time.Second))) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(time.Until(at), 0), retryAfterMax)
	}
	return 0
}

// drop ends an answer whose body is of no interest. Draining lets the
// connection be used again; a body that does not end is cut off.
func drop(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	resp.Body.Close()
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
