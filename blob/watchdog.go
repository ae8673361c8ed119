package blob

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"
)

// stallTimeout ends a request whose answer does not begin for so long, or whose
// body gives fewer than stallBytes in that time; it is then tried again.
var stallTimeout = 30 * time.Second

// stallBytes in stallTimeout, some 500 bytes a second, is less than any link
// gives to each of the parallel requests of a scan. A server that drips bytes does
// not hold a scan for as long as it likes.
const stallBytes = 15 << 10

// errStalled is what a request ends with that the watchdog has ended.
var errStalled = errors.New("the connection stalled: too little came in half a minute")

// A watchdog ends requests that stall. It watches one attempt, not the waits
// between them, which a registry may ask to be longer.
type watchdog struct{ inner http.RoundTripper }

func (w *watchdog) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	timer := time.AfterFunc(stallTimeout, func() { cancel(errStalled) })
	resp, err := w.inner.RoundTrip(req.WithContext(ctx))
	timer.Stop()
	if err != nil {
		err = stalled(ctx, err)
		cancel(nil)
		return nil, err
	}
	resp.Body = &watchedBody{ReadCloser: resp.Body, ctx: ctx, cancel: cancel, timer: timer, left: stallTimeout}
	return resp, nil
}

// watchedBody runs the watchdog's timer while a read waits, and only then: how
// long the reader takes between reads is its own affair.
type watchedBody struct {
	io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer

	left  time.Duration // of stallTimeout, for the next stallBytes
	bytes int           // that came since left was all of it
}

func (b *watchedBody) Read(p []byte) (int, error) {
	began := time.Now()
	b.timer.Reset(b.left)
	n, err := b.ReadCloser.Read(p)
	b.timer.Stop()
	b.left -= time.Since(began)
	if b.bytes += n; b.bytes >= stallBytes {
		b.left, b.bytes = stallTimeout, 0
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = stalled(b.ctx, err)
	}
	return n, err
}

func (b *watchedBody) Close() error {
	b.timer.Stop()
	err := b.ReadCloser.Close()
	b.cancel(nil)
	return err
}

// stalled replaces the error of a request that the watchdog ended by the
// watchdog's.
func stalled(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, errStalled) {
		return cause
	}
	return err
}
