package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"
)

// maxEpilogue bounds what is read of an answer behind its last part, in bytes: a
// boundary has at most 70 characters (RFC 2046).
const maxEpilogue = 256

// maxPartHead bounds what comes of an answer with each part beside the blob's bytes, in bytes: servers
// send some 150 for its boundary and headers.
const maxPartHead = 1 << 10

// A byteRange is a piece of a blob to be read: len(data) bytes at off.
type byteRange struct {
	off  int64
	data []byte
}

// errSingly says that a server has given none of several ranges that it was asked for
// at once: they are to be asked for one by one.
var errSingly = errors.New("the server does not give several ranges at once")

// A rangesReader is a [Source] that may give several ranges for one request.
type rangesReader interface {
	// several says whether that is worth a try.
	several() bool
	// readRanges fills ranges, which are in ascending order and apart. It returns
	// nil only when all were filled, and errSingly where that was not worth the try.
	readRanges(ctx context.Context, ranges []byteRange) error
}

// several says whether several ranges of a source are worth one request: where they are
// not asked for over a network, requests cost nothing.
func several(source Source) bool {
	r, ok := source.(rangesReader)
	return !ok || r.several()
}

// readRanges reads ranges of a source, in one request where it can, with errSingly where
// that turns out not to be so.
func readRanges(ctx context.Context, source Source, ranges []byteRange) error {
	if r, ok := source.(rangesReader); ok && len(ranges) > 1 && r.several() {
		return r.readRanges(ctx, ranges)
	}
	for _, r := range ranges {
		if err := source.ReadRange(ctx, r.data, r.off); err != nil {
			return err
		}
	}
	return nil
}

// several implements rangesReader: a server is taken to know the multipart
// answers of RFC 9110 until it gave another. Go's and nginx's file servers do,
// and so a registry that keeps its data in files; object stores do not.
func (h *HTTP) several() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.server.single.Load() && h.whole == nil && h.download == nil
}

// readRanges implements rangesReader. What is missing of an answer is asked for range
// by range.
func (h *HTTP) readRanges(ctx context.Context, ranges []byteRange) error {
	for _, r := range ranges {
		if err := checkRange(r.off, int64(len(r.data)), h.size); err != nil {
			return err
		}
	}
	if err := h.givenUp(); err != nil {
		return fmt.Errorf("read %d ranges from %d on: %w", len(ranges), ranges[0].off, err)
	}
	left, err := h.readParts(ctx, ranges)
	if err != nil {
		return err
	}
	if len(left) == len(ranges) && !h.several() {
		return errSingly
	}
	for _, r := range left {
		if err := h.ReadRange(ctx, r.data, r.off); err != nil {
			return err
		}
	}
	return nil
}

// readParts asks for all ranges at once and returns what is left of them.
func (h *HTTP) readParts(ctx context.Context, ranges []byteRange) ([]byteRange, error) {
	var list strings.Builder
	for n, r := range ranges {
		if n > 0 {
			list.WriteByte(',')
		}
		fmt.Fprintf(&list, "%d-%d", r.off, r.off+int64(len(r.data))-1)
	}
	resp, err := h.get(ctx, "bytes="+list.String())
	var answer *answerError
	switch {
	case errors.As(err, &answer):
		h.server.single.Store(true) // it may refuse the list, not the ranges
		return ranges, nil
	case ctx.Err() != nil:
		return nil, h.ended(ctx, err)
	case err != nil:
		h.giveUp(err)
		return nil, fmt.Errorf("read %d ranges from %d on: %w: %w", len(ranges), ranges[0].off, ErrIncomplete, err)
	}
	defer resp.Body.Close() // one that is longer than it should be is not read
	kind, params, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if resp.StatusCode != http.StatusPartialContent || err != nil || kind != "multipart/byteranges" {
		h.server.single.Store(true)
		return ranges, nil
	}
	// What is skipped in it has no bound of its own.
	body := &io.LimitedReader{R: resp.Body, N: h.size + int64(len(ranges)+1)*maxPartHead}
	left, err := h.fillParts(multipart.NewReader(body, params["boundary"]), ranges)
	switch {
	case err == nil:
		// The last boundary, so that the connection can be used again.
		_, _ = io.CopyN(io.Discard, body, maxEpilogue)
	case !errors.Is(err, errBroken) || body.N <= 0:
		h.server.single.Store(true)
	}
	if ctx.Err() != nil {
		return nil, h.ended(ctx, err)
	}
	return left, nil
}

// fillParts reads the parts of an answer into the ranges, in order, and returns
// those that are not full. A part may hold several ranges and what lies between
// them. The error says why the answer ended early.
func (h *HTTP) fillParts(parts *multipart.Reader, ranges []byteRange) (left []byteRange, err error) {
	left = ranges
	for len(left) > 0 {
		part, err := parts.NextRawPart()
		if err != nil {
			return left, fmt.Errorf("%w: %w", errBroken, err)
		}
		off, end, err := parseContentRange(part.Header.Get("Content-Range"), h.size)
		if err != nil {
			return left, err
		}
		for len(left) > 0 && left[0].off < end {
			r := left[0]
			if r.off < off || r.off-off > largeGap || r.off+int64(len(r.data)) > end {
				return left, fmt.Errorf("asked for %d bytes at %d, the answer has bytes %d to %d", len(r.data), r.off, off, end)
			}
			if _, err := io.CopyN(io.Discard, part, r.off-off); err != nil {
				return left, fmt.Errorf("%w: %w", errBroken, err)
			}
			n, err := readBody(part, r.data)
			if err != nil {
				rest := append([]byteRange{{off: r.off + int64(n), data: r.data[n:]}}, left[1:]...)
				return rest, err
			}
			off = r.off + int64(n)
			left = left[1:]
		}
	}
	return nil, nil
}
