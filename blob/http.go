package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// resumes is how often a body that breaks off is asked for again, from where
// it broke, before the range is given up.
const resumes = 5

// HTTP is a [Source] over ranged GET requests. See [Server.Blob].
type HTTP struct {
	server *Server
	origin *url.URL
	size   int64

	mu sync.Mutex
	// target is where the registry redirected to last. Presigned addresses
	// expire: when it stops to work, the registry is asked again.
	target *url.URL
	// refusedUntil is when a range may be asked for again after one was given up
	// for refusedFor: whoever reads the blob for many files does not wait for each.
	refusedUntil time.Time
	refusedFor   error
	// whole holds the blob once the registry has answered a range with all of
	// it. download, while that is under way, is closed at its end.
	whole    *spool
	download chan struct{}
	noticed  bool
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
	h.server.temp.Return(uint64(h.size))
	return err
}

// ReadRange implements [Source]. A body that breaks off is resumed from there;
// other failures are final, the transport has repeated what may pass.
func (h *HTTP) ReadRange(ctx context.Context, p []byte, off int64) error {
	if err := checkRange(off, int64(len(p)), h.size); err != nil {
		return err
	}
	if err := h.givenUp(); err != nil {
		return fmt.Errorf("read %d bytes at %d: %w", len(p), off, err)
	}
	for failures := 0; len(p) > 0; {
		n, err := h.read(ctx, p, off)
		p, off = p[n:], off+int64(n)
		switch {
		case err == nil:
			continue
		case ctx.Err() != nil:
			return h.ended(ctx, err)
		case failures >= resumes || !errors.Is(err, errBroken):
			h.giveUp(err)
			return fmt.Errorf("read %d bytes at %d: %w: %w", len(p), off, ErrIncomplete, err)
		}
		failures += cost(err)
		if err := h.pause(ctx, failures, err); err != nil {
			return err
		}
	}
	return nil
}

// givenUpFor is how long a blob is given up of which a range could not be read.
const givenUpFor = time.Minute

// giveUp lets reads fail at once for a while.
func (h *HTTP) giveUp(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refusedFor, h.refusedUntil = err, time.Now().Add(givenUpFor)
}

// givenUp is why the blob is given up, nil if it is not.
func (h *HTTP) givenUp() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Now().After(h.refusedUntil) {
		return nil
	}
	return fmt.Errorf("%w: given up before: %w", ErrIncomplete, h.refusedFor)
}

// cost is how many failures one counts for. A body that stalls takes half a minute
// of waiting each time: stalledMax of these are enough.
func cost(err error) int {
	if errors.Is(err, errStalled) {
		return (resumes + stalledMax - 1) / (stalledMax - 1)
	}
	return 1
}

// pause waits before a read that has failed is tried again; last is what came of it.
func (h *HTTP) pause(ctx context.Context, failures int, last error) error {
	if cause := sleep(ctx, backoff(failures)); cause != nil {
		return &WaitError{Host: h.lastTarget().Host, Last: last.Error(), cause: cause}
	}
	return nil
}

// ended is the error of a read whose context ended, with what it waited for.
func (h *HTTP) ended(ctx context.Context, err error) error {
	var waiting *WaitError
	if errors.As(err, &waiting) {
		return waiting
	}
	return &WaitError{Host: h.lastTarget().Host, cause: context.Cause(ctx)}
}

// read makes one request, unless the whole blob is here, and returns how many
// bytes of p it filled: without an error it may be fewer than all.
func (h *HTTP) read(ctx context.Context, p []byte, off int64) (int, error) {
	whole, err := h.spooled(ctx)
	if err != nil {
		return 0, err
	}
	if whole != nil {
		return whole.ReadAt(p, off)
	}
	resp, err := h.get(ctx, fmt.Sprintf("bytes=%d-%d", off, off+int64(len(p))-1))
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusPartialContent {
		n, err := checkContentRange(resp.Header.Get("Content-Range"), off, int64(len(p)), h.size)
		if err != nil {
			return 0, err
		}
		return readBody(resp.Body, p[:n])
	}
	if resp.ContentLength >= 0 && resp.ContentLength != h.size {
		return 0, fmt.Errorf("%s has %d bytes for a blob of %d: %w", resp.Request.URL.Host, resp.ContentLength, h.size, ErrSize)
	}
	if int64(len(p)) == h.size {
		return readBody(resp.Body, p)
	}
	return 0, h.spool(resp)
}

// get asks for a range, following redirects. The answer is 200 or 206.
func (h *HTTP) get(ctx context.Context, byteRange string) (*http.Response, error) {
	address := h.lastTarget()
	kept := address != h.origin
	for redirects := 0; redirects <= maxRedirects; {
		resp, err := h.ask(ctx, address, byteRange)
		if kept && ctx.Err() == nil && (err != nil || resp.StatusCode >= 400) {
			// The kept address has expired or its host has gone: ask the
			// registry for a new one.
			if err == nil {
				drop(resp)
			}
			h.keepTarget(nil)
			address, kept = h.origin, false
			continue
		}
		if err != nil {
			return nil, err
		}
		switch resp.StatusCode {
		case http.StatusOK, http.StatusPartialContent:
			h.keepTarget(address)
			return resp, nil
		case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther,
			http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
			drop(resp)
			if address, err = redirect(h.origin, address, resp.Header.Get("Location")); err != nil {
				return nil, err
			}
			kept = false
			redirects++
		default:
			drop(resp)
			return nil, &answerError{resp.StatusCode, address.Host}
		}
	}
	return nil, fmt.Errorf("more than %d redirects from %s", maxRedirects, h.origin.Host)
}

func (h *HTTP) ask(ctx context.Context, address *url.URL, byteRange string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("address of the blob: %w", err)
	}
	req.Header.Set("Range", byteRange)
	// A compressed transfer would have ranges of its own.
	req.Header.Set("Accept-Encoding", "identity")
	return h.server.transport.RoundTrip(req)
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

// spooled returns the whole blob, nil if it is not here. It waits for the end
// of a download that is under way.
func (h *HTTP) spooled(ctx context.Context) (*spool, error) {
	for {
		h.mu.Lock()
		whole, download := h.whole, h.download
		h.mu.Unlock()
		if whole != nil || download == nil {
			return whole, nil
		}
		select {
		case <-download:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// spool stores the body of an answer that ignored the range, unless another
// goroutine is at it or has done it: then the body is left unread.
func (h *HTTP) spool(resp *http.Response) error {
	h.mu.Lock()
	if h.whole != nil || h.download != nil {
		h.mu.Unlock()
		return nil
	}
	done := make(chan struct{})
	h.download = done
	tell := !h.noticed
	h.noticed = true
	h.mu.Unlock()

	if tell {
		h.server.notice(fmt.Sprintf("%s has no ranges: downloading a blob of %d bytes whole", resp.Request.URL.Host, h.size))
	}
	var whole *spool
	err := h.server.temp.Take("a blob from a registry without ranges", uint64(h.size))
	if err == nil {
		if whole, err = newSpool(resp.Body, h.size); err != nil {
			h.server.temp.Return(uint64(h.size))
		}
	}
	h.mu.Lock()
	h.whole, h.download = whole, nil
	h.mu.Unlock()
	close(done)
	return err
}

// An answerError is an answer that no repetition changes.
type answerError struct {
	code int
	host string
}

func (e *answerError) Error() string {
	what := fmt.Sprintf("%s answered %d %s", e.host, e.code, http.StatusText(e.code))
	switch e.code {
	case http.StatusNotFound:
		what += fmt.Sprintf(": %v from the registry", ErrMissing)
	case http.StatusUnauthorized, http.StatusForbidden:
		what += ": the credentials do not allow to pull it"
	case http.StatusRequestedRangeNotSatisfiable:
		what += fmt.Sprintf(": the blob is shorter than the manifest says: %v", ErrSize)
	}
	return what
}

func (e *answerError) Unwrap() error {
	switch e.code {
	case http.StatusNotFound:
		return ErrMissing
	case http.StatusRequestedRangeNotSatisfiable:
		return ErrSize
	}
	return nil
}

// errBroken is wrapped by errors about a body that ended before its time. What
// is missing can be asked for again.
var errBroken = errors.New("the answer broke off")

func readBody(body io.Reader, p []byte) (int, error) {
	n, err := io.ReadFull(body, p)
	if err != nil {
		return n, fmt.Errorf("%w after %d of %d bytes: %w", errBroken, n, len(p), err)
	}
	return n, nil
}

// checkContentRange compares a Content-Range with what was asked for and returns
// how many bytes the answer has: a server may give fewer.
func checkContentRange(header string, off, n, size int64) (int64, error) {
	first, end, err := parseContentRange(header, size)
	if err == nil && (first != off || end > off+n) {
		err = fmt.Errorf("the answer is for %.80q", header)
	}
	if err != nil {
		return 0, fmt.Errorf("asked for bytes %d-%d/%d: %w", off, off+n-1, size, err)
	}
	return end - off, nil
}

// parseContentRange reads "bytes first-last/total" of a blob of size bytes: from
// off to before end, at least one.
func parseContentRange(header string, size int64) (off, end int64, err error) {
	rest, ok := strings.CutPrefix(header, "bytes ")
	span, total, ok2 := strings.Cut(rest, "/")
	first, last, ok3 := strings.Cut(span, "-")
	off, err = strconv.ParseInt(first, 10, 64)
	end, err2 := strconv.ParseInt(last, 10, 64)
	if !ok || !ok2 || !ok3 || err != nil || err2 != nil || off < 0 || end < off || end >= size {
		return 0, 0, fmt.Errorf("the answer is for %.80q", header)
	}
	if total != "*" && total != strconv.FormatInt(size, 10) {
		return 0, 0, fmt.Errorf("the answer is for %.80q: %w", header, ErrSize)
	}
	return off, end + 1, nil
}
