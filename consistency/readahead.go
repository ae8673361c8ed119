package consistency

import "io"

const (
	aheadBuffers = 4
	aheadSize    = 256 << 10
)

// A readAhead reads in a goroutine of its own, some buffers ahead of who reads
// from it. It must be
// closed.
type readAhead struct {
	full    chan filled   // to the reader
	empty   chan []byte   // back from it
	stop    chan struct{} // closed by close
	ended   chan struct{} // closed when the goroutine has ended
	current []byte        // rest of what the reader is at
	buffer  []byte        // that holds current
	err     error
}

// A filled buffer, and the error that came with it.
type filled struct {
	buffer []byte
	err    error
}

func newReadAhead(r io.Reader) *readAhead {
	a := &readAhead{
		full: make(chan filled, aheadBuffers), empty: make(chan []byte, aheadBuffers),
		stop: make(chan struct{}), ended: make(chan struct{}),
	}
	for range aheadBuffers {
		a.empty <- make([]byte, aheadSize)
	}
	go a.fill(r)
	return a
}

func (a *readAhead) fill(r io.Reader) {
	defer close(a.ended)
	for {
		var buffer []byte
		select {
		case buffer = <-a.empty:
		case <-a.stop:
			return
		}
		n, err := 0, error(nil)
		for n < aheadSize && err == nil {
			var read int
			read, err = r.Read(buffer[n:aheadSize])
			n += read
		}
		a.full <- filled{buffer[:n], err} // has room for all buffers
		if err != nil {
			return
		}
	}
}

// Read implements [io.Reader].
func (a *readAhead) Read(p []byte) (int, error) {
	for len(a.current) == 0 {
		if a.err != nil {
			return 0, a.err
		}
		if a.buffer != nil {
			a.empty <- a.buffer
		}
		next := <-a.full
		a.buffer, a.current, a.err = next.buffer, next.buffer, next.err
	}
	n := copy(p, a.current)
	a.current = a.current[n:]
	return n, nil
}

// close waits for the goroutine: the reader below is free then.
func (a *readAhead) close() {
	close(a.stop)
	<-a.ended
}
