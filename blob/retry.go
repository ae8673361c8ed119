package blob

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math"
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
	maxAttempts = 6
	refusedMax  = 4 // attempts where nothing listens: mostly a wrong address
	stalledMax  = 2 // attempts where nothing comes back: each takes stallTimeout
	longestWait = 8 * time.Second
	// retryAfterMax is the longest wait that a registry may ask for, and waitMax
	// the longest for all waits of one request: a pipeline should not hang on it.
	// Where more is asked for, the request is given up at once.
	retryAfterMax = time.Minute
	waitMax       = 2 * time.Minute
)

// firstWait is the wait after the first attempt, doubled after each further
// one. It is a variable so that tests need not wait.
var firstWait = 250 * time.Millisecond

// Retry returns a transport that repeats requests which failed in a way that may
// pass: connection errors, stalls, 408, 429 and 5xx but 501, and, of a request
// without a range, a body that breaks off: that is read whole, into memory (see
// maxAnswer), before the answer is returned. It repeats GET and HEAD, and POST,
// by which tokens are asked for, if the request has its body again (GetBody). It
// waits between attempts, at least as long as the answer's Retry-After asks where
// it has one. The last answer or error is returned as it came, but where a
// registry asks for too long a wait there is an error that says so. Requests and
// bodies of which too little comes for half a minute are ended. What ends with the
// request's context ends in a [WaitError].
func Retry(inner http.RoundTripper) http.RoundTripper {
	return &retryTransport{inner: &wholeTransport{&watchdog{inner}}}
}

type retryTransport struct{ inner http.RoundTripper }

func (t *retryTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	var waited time.Duration
	var last string // what came of the attempt before
	for attempt := 1; ; attempt++ {
		resp, err := t.inner.RoundTrip(req)
		if req.Context().Err() != nil && err != nil {
			return nil, &WaitError{Host: req.URL.Host, Last: last, cause: context.Cause(req.Context())}
		}
		if attempt >= attempts(err) || !passing(resp, err) || !repeatable(req) {
			return resp, err
		}
		wait := backoff(attempt)
		if resp != nil {
			drop(resp)
			asked := retryAfter(resp)
			last = fmt.Sprintf("%s answered %d %s", req.URL.Host, resp.StatusCode, http.StatusText(resp.StatusCode))
			if asked > retryAfterMax || waited+asked > waitMax {
				return nil, &tooLongError{fmt.Sprintf("%s and asks to wait %v", last, asked)}
			}
			wait = max(wait, asked)
		} else {
			last = err.Error()
		}
		if err := sleep(req.Context(), wait); err != nil {
			return nil, &WaitError{Host: req.URL.Host, Last: last, cause: err}
		}
		waited += wait
		if req.GetBody != nil {
			if req, err = again(req); err != nil {
				return nil, err
			}
		}
	}
}

// repeatable says whether a request may be sent twice.
func repeatable(req *http.Request) bool {
	switch req.Method {
	case http.MethodGet, http.MethodHead:
		return true
	case http.MethodPost:
		return req.GetBody != nil
	}
	return false
}

// again is a request with its body from the beginning.
func again(req *http.Request) (*http.Request, error) {
	body, err := req.GetBody()
	if err != nil {
		return nil, err
	}
	next := req.Clone(req.Context())
	next.Body = body
	return next, nil
}

// A tooLongError says that a registry asks for a longer wait than it gets.
type tooLongError struct{ text string }

func (e *tooLongError) Error() string   { return e.text }
func (e *tooLongError) Permanent() bool { return true }

// A WaitError says that a request's context ended, and what the request waited
// for. It unwraps to the context's cause.
type WaitError struct {
	Host  string // "host" or "host:port" that had not answered, or not in full
	Last  string // what came of the attempt before; "" if there was none
	cause error
}

// Reason says what was waited for.
func (e *WaitError) Reason() string {
	if e.Last == "" {
		return "waiting for " + e.Host
	}
	return fmt.Sprintf("waiting for %s: %s", e.Host, e.Last)
}

func (e *WaitError) Error() string { return fmt.Sprintf("%v, %s", e.cause, e.Reason()) }
func (e *WaitError) Unwrap() error { return e.cause }

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
		return time.Duration(min(seconds, math.MaxInt32)) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(time.Until(at), 0).Truncate(time.Second)
	}
	return 0
}

// drainMax is how much of a body of no interest is read so that its connection
// can be used again.
const drainMax = 8 << 10

// drop ends an answer whose body is of no interest. A small body is drained,
// which lets the connection be used again; others are cut off.
func drop(resp *http.Response) {
	if resp.ContentLength >= 0 && resp.ContentLength <= drainMax {
		_, _ = io.CopyN(io.Discard, resp.Body, drainMax)
	}
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
