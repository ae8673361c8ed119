package blob

import (
	"context"
	"fmt"
	"net/http"
)

// A prober is a [Source] that can say without reading whether the blob is there.
type prober interface {
	probe(ctx context.Context) error
}

// Probe asks whether a blob is there and as long as the manifest says, at the
// price of its first byte. Errors are those of [Source.ReadRange]: they wrap
// [ErrMissing] or [ErrSize] where the answer is no.
func Probe(ctx context.Context, source Source) error {
	if p, ok := source.(prober); ok {
		return p.probe(ctx)
	}
	return source.ReadRange(ctx, make([]byte, min(1, source.Size())), 0)
}

// probe asks by GET: a HEAD fails where the registry redirects to an address
// that is signed for GET. An answer without ranges is not read.
func (h *HTTP) probe(ctx context.Context) error {
	if err := h.givenUp(); err != nil {
		return fmt.Errorf("ask for the first byte: %w", err)
	}
	resp, err := h.get(ctx, "bytes=0-0")
	switch {
	case ctx.Err() != nil:
		return h.ended(ctx, err)
	case err != nil:
		h.giveUp(err)
		return fmt.Errorf("ask for the first byte: %w: %w", ErrIncomplete, err)
	}
	defer drop(resp)
	if resp.StatusCode == http.StatusPartialContent {
		_, err = checkContentRange(resp.Header.Get("Content-Range"), 0, 1, h.size)
	} else if resp.ContentLength >= 0 && resp.ContentLength != h.size {
		err = fmt.Errorf("%s has %d bytes for a blob of %d: %w", resp.Request.URL.Host, resp.ContentLength, h.size, ErrSize)
	}
	if err != nil {
		return fmt.Errorf("ask for the first byte: %w: %w", ErrIncomplete, err)
	}
	return nil
}
