package blob

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
)

const (
	// streamWindow is how much of a source without streams of its own is read at
	// once.
	streamWindow = 1 << 20
	// resumeProgress is how many bytes a stream must give before the failures
	// until then are forgotten: a long download may break off more often than a
	// short one, one that gets nowhere is given up.
	resumeProgress = 4 << 20
)

// A Stream reads a whole blob from its beginning, once. It is not safe for
// concurrent use.
type Stream struct {
	ctx    context.Context
	source Source
	digest string
	hash   hash.Hash

	body     io.ReadCloser // nil: to be opened at off
	off      int64
	failures int
	kept     int64 // off when the failures were last forgotten
	err      error
}

// NewStream returns a stream of source. Over HTTP it is one request, which is
// resumed where it breaks off, and where the server has no ranges its answer is
// read as it comes, not stored. Read gives [io.EOF] only if the bytes were those
// that digest names ("sha256:" and hexadecimal), else an error that wraps
// [ErrDigest]; so the bytes are to be trusted only after that. The stream must
// be closed.
func NewStream(ctx context.Context, source Source, digest string) *Stream {
	return &Stream{ctx: ctx, source: source, digest: digest, hash: sha256.New()}
}

// Close ends the stream's request.
func (s *Stream) Close() error {
	if s.body == nil {
		return nil
	}
	err := s.body.Close()
	s.body = nil
	return err
}

// Offset returns how many bytes have been read.
func (s *Stream) Offset() int64 { return s.off }

// Read implements [io.Reader].
func (s *Stream) Read(p []byte) (int, error) {
	if s.err != nil || len(p) == 0 {
		return 0, s.err
	}
	if s.off == s.source.Size() {
		s.err = s.verify()
		return 0, s.err
	}
	n, err := s.read(p)
	s.hash.Write(p[:n])
	s.off += int64(n)
	s.err = err
	return n, err
}

// read returns at least one byte or an error.
func (s *Stream) read(p []byte) (int, error) {
	p = p[:min(int64(len(p)), s.source.Size()-s.off)]
	h, _ := s.source.(*HTTP) // nil for other sources
	if h != nil && s.off == 0 {
		if err := h.givenUp(); err != nil {
			return 0, s.wrap(err)
		}
	}
	for {
		n, err := s.try(p)
		if n > 0 {
			return n, nil // an error comes again
		}
		switch {
		case err == nil:
			continue
		case s.ctx.Err() != nil:
			if h != nil {
				return 0, h.ended(s.ctx, err)
			}
			return 0, context.Cause(s.ctx)
		case !errors.Is(err, errBroken):
			return 0, s.wrap(err)
		}
		if s.off-s.kept >= resumeProgress {
			s.failures, s.kept = 0, s.off
		}
		if s.failures >= resumes {
			return 0, s.wrap(err)
		}
		s.failures += cost(err)
		if h != nil {
			err = h.pause(s.ctx, s.failures, err)
		} else {
			err = sleep(s.ctx, backoff(s.failures))
		}
		if err != nil {
			return 0, err
		}
	}
}

func (s *Stream) wrap(err error) error {
	if !errors.Is(err, ErrIncomplete) {
		err = fmt.Errorf("%w: %w", ErrIncomplete, err)
	}
	return fmt.Errorf("read on at byte %d of %d: %w", s.off, s.source.Size(), err)
}

// try reads from the answer at hand, or asks for one. An answer that ends is
// dropped.
func (s *Stream) try(p []byte) (int, error) {
	if s.body == nil {
		var err error
		if s.body, err = s.open(); err != nil {
			return 0, err
		}
	}
	n, err := s.body.Read(p)
	if err != nil {
		if err == io.EOF {
			err = fmt.Errorf("%w after %d of %d bytes", errBroken, s.off+int64(n), s.source.Size())
		}
		s.body.Close() // the body's error says more
		s.body = nil
	}
	return n, err
}

// open gives the blob's bytes from s.off on, or some of them.
func (s *Stream) open() (io.ReadCloser, error) {
	if h, ok := s.source.(*HTTP); ok {
		return h.open(s.ctx, s.off)
	}
	return &windows{ctx: s.ctx, source: s.source, off: s.off}, nil
}

// verify compares what was read with the digest; io.EOF says that it is that.
func (s *Stream) verify() error {
	if got := fmt.Sprintf("sha256:%x", s.hash.Sum(nil)); got != s.digest {
		return fmt.Errorf("the %d bytes hash to %s, not %s: %w", s.off, got, s.digest, ErrDigest)
	}
	return io.EOF
}

// windows reads a source piece by piece.
type windows struct {
	ctx    context.Context
	source Source
	off    int64  // of what comes after ahead
	ahead  []byte // the rest of window
	window [streamWindow]byte
}

func (w *windows) Read(p []byte) (int, error) {
	if len(w.ahead) == 0 {
		window := w.window[:min(streamWindow, w.source.Size()-w.off)]
		if err := w.source.ReadRange(w.ctx, window, w.off); err != nil {
			return 0, err
		}
		w.ahead, w.off = window, w.off+int64(len(window))
	}
	n := copy(p, w.ahead)
	w.ahead = w.ahead[n:]
	return n, nil
}

func (w *windows) Close() error { return nil }

// open asks for the blob from off on. The body ends, without saying that more
// is missing, where the server gives less.
func (h *HTTP) open(ctx context.Context, off int64) (io.ReadCloser, error) {
	whole, err := h.spooled(ctx)
	if err != nil {
		return nil, err
	}
	if whole != nil {
		return io.NopCloser(io.NewSectionReader(whole, off, h.size-off)), nil
	}
	resp, err := h.get(ctx, fmt.Sprintf("bytes=%d-", off))
	if err != nil {
		return nil, err
	}
	if err := h.place(resp, off); err != nil {
		resp.Body.Close()
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{&brokenReader{resp.Body}, resp.Body}, nil
}

// place checks that an answer's body begins at off, or brings it there.
func (h *HTTP) place(resp *http.Response, off int64) error {
	if resp.StatusCode == http.StatusPartialContent {
		_, err := checkContentRange(resp.Header.Get("Content-Range"), off, h.size-off, h.size)
		return err
	}
	if resp.ContentLength >= 0 && resp.ContentLength != h.size {
		return fmt.Errorf("%s has %d bytes for a blob of %d", resp.Request.URL.Host, resp.ContentLength, h.size)
	}
	if n, err := io.CopyN(io.Discard, resp.Body, off); err != nil {
		return fmt.Errorf("%w after %d of %d bytes: %w", errBroken, n, h.size, err)
	}
	return nil
}

// Prove reads a blob from its beginning to its end and compares it with its digest,
// as [NewStream] has it. What lies from off on is written to w, and is to be
// trusted only if there is no error.
func Prove(ctx context.Context, source Source, digest string, off int64, w io.Writer) error {
	stream := NewStream(ctx, source, digest)
	defer stream.Close()
	if _, err := io.CopyN(io.Discard, stream, off); err != nil {
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("%d bytes, there should be more than %d: %w", source.Size(), off, ErrIncomplete)
		}
		return err
	}
	_, err := io.Copy(w, stream)
	return err
}
