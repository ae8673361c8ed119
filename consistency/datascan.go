package consistency

import (
	"context"
	"io"
	"sync"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/blob"
)

const (
	// scanBlock is how much of a blob is read at once, and scanAhead how many
	// blocks wait for the reader of chunks at most.
	scanBlock = 1 << 20
	scanAhead = 4
	// scanKept is how much of a blob stays in memory behind the furthest byte that
	// was asked for: what a chunk, or what chunks share, takes at most.
	scanKept = 20 << 20
)

// A scan is a [blob.Source] over a blob that is read from its beginning to its
// end, once, and hashed: chunks that are asked for in the order in which they
// are stored are cut out of what passes by.
type scan struct {
	source blob.Source
	ctx    context.Context
	cancel context.CancelFunc
	blocks chan []byte // closed after err is set
	done   sync.WaitGroup
	err    error // of the stream; nil after a blob that was what its digest says

	mu     sync.Mutex
	window []byte // the bytes before read
	read   int64  // from the blob's beginning
	failed error  // what kept a range from being read
}

// newScan begins to read. The scan must be closed.
func newScan(ctx context.Context, source blob.Source, digest string) *scan {
	s := &scan{source: source, blocks: make(chan []byte, scanAhead)}
	s.ctx, s.cancel = context.WithCancel(ctx)
	s.done.Go(func() {
		defer close(s.blocks)
		stream := blob.NewStream(s.ctx, source, digest)
		defer stream.Close()
		s.err = s.pump(stream)
	})
	return s
}

// pump reads the stream to its end.
func (s *scan) pump(stream io.Reader) error {
	for {
		block := make([]byte, scanBlock)
		n, err := io.ReadFull(stream, block)
		if n > 0 {
			select {
			case s.blocks <- block[:n]:
			case <-s.ctx.Done():
				return context.Cause(s.ctx)
			}
		}
		switch {
		case err == io.EOF, err == io.ErrUnexpectedEOF:
			return nil
		case err != nil:
			return err
		}
	}
}

// close ends the scan, wherever it is.
func (s *scan) close() {
	s.cancel()
	for range s.blocks {
	}
	s.done.Wait()
}

// finish reads what is left. Its error wraps [blob.ErrDigest] where the blob is
// not what its digest says.
func (s *scan) finish() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.window = nil
	for block := range s.blocks {
		s.read += int64(len(block))
	}
	return s.err
}

// offset returns how many bytes were read.
func (s *scan) offset() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.read
}

// failure returns what kept the blob from being read on, nil if nothing did.
func (s *scan) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// Size implements [blob.Source].
func (s *scan) Size() int64 { return s.source.Size() }

// ReadRange implements [blob.Source]. What lies too far back is read again.
func (s *scan) ReadRange(ctx context.Context, p []byte, off int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	end := off + int64(len(p))
	for s.read < end {
		block, ok := <-s.blocks
		if !ok {
			if s.failed = s.err; s.failed == nil {
				s.failed = io.ErrUnexpectedEOF
			}
			return s.failed
		}
		s.read += int64(len(block))
		if len(s.window)+len(block) > 2*scanKept {
			s.window = append(s.window[:0], s.window[len(s.window)-scanKept:]...)
		}
		s.window = append(s.window, block...)
	}
	start := s.read - int64(len(s.window))
	if off < start {
		err := s.source.ReadRange(ctx, p, off)
		if err != nil {
			s.failed = err
		}
		return err
	}
	copy(p, s.window[off-start:])
	return nil
}
