package blob

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// maxRedirects is how many answers in a row may point elsewhere before a
	// blob's bytes come; registries use one, CDNs in front of them two.
	maxRedirects = 5
	// stallTimeout ends a request that gives no byte for so long; it is then
	// tried again.
	stallTimeout = 30 * time.Second
	// resumes is how often a body that breaks off is asked for again, from
	// where it broke, before the range is given up.
	resumes = 5
)

// HTTP is a [Source] over ranged GET requests.
type HTTP struct {
	transport http.RoundTripper
	origin    *url.URL
	size      int64
	notice    func(string)

	mu sync.Mutex
	// target is where the registry redirected to last. Presigned addresses
	// expire: when it stops to work, the registry is asked again.
	target *url.URL
	// whole holds the blob once the registry has answered a range with all of
	// it; spooling serialises that one download.
	whole    *spool
	spooling sync.Mutex
}

// NewHTTP returns the source of the blob at the given address, size bytes
// long. The transport authenticates, keeps credentials from other hosts and
// repeats failed requests (see [Retry]). notice, which may be nil, is told once
// when the server has no ranges and the blob is downloaded whole.
func NewHTTP(transport http.RoundTripper, address *url.URL, size int64, notice func(string)) *HTTP {
	if notice == nil {
		notice = func(string) {}
	}
	return &HTTP{transport: transport, origin: address, size: size, notice: notice}
}

// Size implements [Source].
func (h *HTTP) Size() int64 { return h.size }

// Close frees what a download without ranges left on disk.
func (h *HTTP) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.whole == nil {
		return nil
	}
	err := h.whole.Close()
	h.whole = nil
	return err
}

// ReadRange implements [Source]. A body that breaks off is resumed from there.
func (h *HTTP) ReadRange(ctx context.Context, p []byte, off int64) error {
	if err := checkRange(off, int64(len(p)), h.size); err != nil {
		return err
	}
	var last error
	for failures := 0; failures <= resumes; {
		if len(p) == 0 {
			return nil
		}
		if whole := h.spooled(); whole != nil {
			_, err := whole.ReadAt(p, off)
			return err
		}
		n, err := h.read(ctx, p, off)
		p, off = p[n:], off+int64(n)
		if err == nil {
			continue
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if final(err) {
			return err
		}
		last = err
		failures++
		if err := sleep(ctx, backoff(failures)); err != nil {
			return err
		}
	}
	return fmt.Errorf("read %d bytes at %d: %w: %w", len(p), off, ErrIncomplete, last)
}

// read makes one request and returns how many bytes of p it filled.
func (h *HTTP) read(ctx context.Context, p []byte, off int64) (int, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stall := time.AfterFunc(stallTimeout, func() { cancel(errStalled) })
	defer stall.Stop()

	resp, err := h.get(ctx, fmt.Sprintf("bytes=%d-%d", off, off+int64(len(p))-1))
	if err != nil {
		return 0, stalled(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		if off == 0 && int64(len(p)) == h.size {
			return readBody(ctx, resp.Body, p, stall)
		}
		return 0, h.spool(ctx, resp, stall)
	}
	if err := checkContentRange(resp.Header.Get("Content-Range"), off, int64(len(p)), h.size); err != nil {
		return 0, err
	}
	return readBody(ctx, resp.Body, p, stall)
}

// get asks for a range, following redirects. The answer is 200 or 206.
func (h *HTTP) get(ctx context.Context, byteRange string) (*http.Response, error) {
	address := h.lastTarget()
	for hop := 0; hop <= maxRedirects; hop++ {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), nil)
		if err != nil {
			return nil, fmt.Errorf("address of the blob: %w", err)
		}
		req.Header.Set("Range", byteRange)
		// A compressed transfer would have ranges of its own.
		req.Header.Set("Accept-Encoding", "identity")
		resp, err := h.transport.RoundTrip(req)
		if err != nil {
			h.keepTarget(nil)
			return nil, err
		}
		switch resp.StatusCode {
		case http.StatusOK, http.StatusPartialContent:
			h.keepTarget(address)
			return resp, nil
		case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther,
			http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
			next, err := address.Parse(resp.Header.Get("Location"))
			drop(resp)
			if err != nil || resp.Header.Get("Location") == "" || next.Host == "" {
				return nil, fmt.Errorf("%s redirects to nowhere", address.Host)
			}
			if err := checkRedirect(h.origin, next); err != nil {
				return nil, err
			}
			address = next
			continue
		}
		drop(resp)
		if hop == 0 && address != h.origin {
			// The kept address has expired or its host has gone: ask the
			// registry for a new one.
			h.keepTarget(nil)
			address = h.origin
			continue
		}
		return nil, &statusError{code: resp.StatusCode, host: address.Host}
	}
	return nil, fmt.Errorf("more than %d redirects from %s", maxRedirects, h.origin.Host)
}

func (h *HTTP) lastTarget() *url.URL {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.target != nil {
		return h.target
	}
	return h.origin
}

func (h *HTTP) keepTarget(address *url.URL) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.target = address
}

func (h *HTTP) spooled() *spool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.whole
}

// spool stores the body of an answer that ignored the range, once: whoever
// comes second uses what the first has stored.
func (h *HTTP) spool(ctx context.Context, resp *http.Response, stall *time.Timer) error {
	stall.Stop()
	h.spooling.Lock()
	defer h.spooling.Unlock()
	if h.spooled() != nil {
		return nil
	}
	stall.Reset(stallTimeout)
	h.notice(fmt.Sprintf("%s has no ranges: downloading a blob of %d bytes whole", resp.Request.URL.Host, h.size))
	whole, err := newSpool()
	if err != nil {
		return err
	}
	n, err := io.Copy(whole, &progressReader{io.LimitReader(resp.Body, h.size+1), stall})
	if err == nil && n != h.size {
		err = fmt.Errorf("the registry sent %d bytes of a blob of %d: %w", n, h.size, ErrIncomplete)
	}
	if err != nil {
		whole.Close()
		return stalled(ctx, err)
	}
	h.mu.Lock()
	h.whole = whole
	h.mu.Unlock()
	return nil
}

// A statusError is an answer that no repetition changes.
type statusError struct {
	code int
	host string
}

func (e *statusError) Error() string {
	what := fmt.Sprintf("%s answered %d %s", e.host, e.code, http.StatusText(e.code))
	switch e.code {
	case http.StatusNotFound:
		return what + ": the blob is missing from the registry"
	case http.StatusUnauthorized, http.StatusForbidden:
		return what + ": the credentials do not allow to pull it"
	case http.StatusRequestedRangeNotSatisfiable:
		return what + ": the blob is shorter than the manifest says"
	}
	return what
}

func (e *statusError) Unwrap() error { return ErrIncomplete }

var errStalled = fmt.Errorf("no byte for %v", stallTimeout)

// stalled replaces the error of a request that the watchdog ended by the
// watchdog's.
func stalled(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, errStalled) {
		return cause
	}
	return err
}

// progressReader feeds the watchdog with each byte that comes.
type progressReader struct {
	r     io.Reader
	stall *time.Timer
}

func (p *progressReader) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	if n > 0 {
		p.stall.Reset(stallTimeout)
	}
	return n, err
}

func readBody(ctx context.Context, body io.Reader, p []byte, stall *time.Timer) (int, error) {
	n, err := io.ReadFull(&progressReader{body, stall}, p)
	if err != nil {
		return n, stalled(ctx, fmt.Errorf("answer broke off after %d of %d bytes: %w", n, len(p), err))
	}
	return n, nil
}

// checkContentRange compares "bytes first-last/total" with what was asked for.
func checkContentRange(header string, off, n, size int64) error {
	rest, ok := strings.CutPrefix(header, "bytes ")
	span, total, ok2 := strings.Cut(rest, "/")
	first, last, ok3 := strings.Cut(span, "-")
	if !ok || !ok2 || !ok3 ||
		first != strconv.FormatInt(off, 10) || last != strconv.FormatInt(off+n-1, 10) ||
		total != "*" && total != strconv.FormatInt(size, 10) {
		return fmt.Errorf("asked for bytes %d-%d/%d, the answer is for %q: %w", off, off+n-1, size, header, ErrIncomplete)
	}
	return nil
}

// checkRedirect refuses that a registry sends this machine to an address inside
// its own network, such as a cloud's metadata service. Names and the
// registry's own host are allowed, as go-containerregistry has it.
func checkRedirect(origin, next *url.URL) error {
	if next.Hostname() == origin.Hostname() {
		return nil
	}
	ip := net.ParseIP(next.Hostname())
	if ip != nil && (ip.IsLoopback() || ip.IsPrivate() || ip.IsLinkLocalUnicast() || ip.IsLinkLocalMulticast() || ip.IsUnspecified()) {
		return &refusedRedirect{from: origin.Host, to: next.Host}
	}
	return nil
}

// A refusedRedirect is an answer that leads where no registry's data should lie.
type refusedRedirect struct{ from, to string }

func (e *refusedRedirect) Error() string {
	return fmt.Sprintf("%s redirects to the private address %s, which is not followed", e.from, e.to)
}

func (e *refusedRedirect) Unwrap() error { return ErrIncomplete }

// final says that an error stays when the request is repeated.
func final(err error) bool {
	var status *statusError
	var redirect *refusedRedirect
	var permanent permanentError
	return errors.As(err, &status) || errors.As(err, &redirect) || errors.As(err, &permanent) && permanent.Permanent()
}

// drop ends an answer whose body is of no interest.
func drop(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	resp.Body.Close()
}

// isHandshakeError says whether the two ends cannot agree on TLS.
func isHandshakeError(err error) bool {
	var verification *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var authority x509.UnknownAuthorityError
	return errors.Is(err, http.ErrSchemeMismatch) || errors.As(err, &verification) || errors.As(err, &record) || errors.As(err, &authority)
}
