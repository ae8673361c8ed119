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
	// scanKept is how much of a blob stays in memory before what was asked for
	// last: slices of a gzip stream share the bytes where they meet.
	scanKept = 1 << 20
)

// scanBlocks are blocks of which the bytes are no longer needed.
var scanBlocks = sync.Pool{New: func() any { return new([scanBlock]byte) }}

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
	window [][]byte // the last blocks that were read
	start  int64    // of the window, in the blob
	read   int64    // from the blob's beginning
	failed error    // what kept a range from being read
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
		block := scanBlocks.Get().(*[scanBlock]byte)[:]
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
	s.forget(s.read)
	for block := range s.blocks {
		s.read += int64(len(block))
		release(block)
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
	s.forget(off - scanKept)
	for end := off + int64(len(p)); s.read < end; {
		block, ok := <-s.blocks
		if !ok {
			if s.failed = s.err; s.failed == nil {
				s.failed = io.ErrUnexpectedEOF
			}
			return s.failed
		}
		s.window = append(s.window, block)
		s.read += int64(len(block))
		s.forget(off - scanKept)
	}
	if off < s.start {
		err := s.source.ReadRange(ctx, p, off)
		if err != nil {
			s.failed = err
		}
		return err
	}
	// All blocks but the blob's last are full.
	for n := off - s.start; len(p) > 0; {
		copied := copy(p, s.window[n/scanBlock][n%scanBlock:])
		p, n = p[copied:], n+int64(copied)
	}
	return nil
}

// forget lets go of the blocks that end before an offset.
func (s *scan) forget(before int64) {
	for len(s.window) > 0 && s.start+int64(len(s.window[0])) <= before {
		s.start += int64(len(s.window[0]))
		release(s.window[0])
		s.window = s.window[1:]
	}
}

// release gives a block back that nobody reads any more.
func release(block []byte) { scanBlocks.Put((*[scanBlock]byte)(block[:scanBlock])) }
