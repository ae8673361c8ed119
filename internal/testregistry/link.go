package testregistry

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Link is the network that a Proxy pretends to be. The zero Link is loopback as it is.
//
// It models what a scan feels: how long the first byte takes, and how many bytes a second there are for all connections
// together. It knows no loss, no slow start and no cost of TLS.
type Link struct {
	BytesPerSecond int64         // of the bodies of all answers together; 0: without limit
	RoundTrip      time.Duration // passes before each answer, and once more on a new connection
	SingleRanges   bool          // a request for several ranges of a blob gets all of it, as from an object store
}

// burst is how long a link may stand idle and catch up: sleeps end late by about as much.
const burst = 5 * time.Millisecond

// piece is how many bytes go over the link at once: connections take turns with it.
const piece = 16 << 10

// shaper is a Link in use.
type shaper struct {
	link Link

	mu   sync.Mutex
	free time.Time // when the link has sent all that was given to it
}

// connectionKey is the key of a connection's mark in the context of its requests.
type connectionKey struct{}

// markConnection gives the requests of a connection a common mark, by which the first of them is known.
func markConnection(ctx context.Context, _ net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, new(atomic.Bool))
}

// request waits for the first byte of an answer.
func (s *shaper) request(r *http.Request) {
	wait := s.link.RoundTrip
	if used, ok := r.Context().Value(connectionKey{}).(*atomic.Bool); ok && !used.Swap(true) {
		wait += s.link.RoundTrip
	}
	sleep(r.Context(), wait)
}

// write sends p by send, as fast as the link allows.
func (s *shaper) write(p []byte, send func([]byte) (int, error)) (int, error) {
	if s.link.BytesPerSecond == 0 {
		return send(p)
	}
	written := 0
	for written < len(p) {
		next := p[written:min(written+piece, len(p))]
		time.Sleep(time.Until(s.take(len(next))))
		n, err := send(next)
		written += n
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

// take is when n more bytes have gone over the link.
func (s *shaper) take(n int) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if earliest := time.Now().Add(-burst); s.free.Before(earliest) {
		s.free = earliest
	}
	s.free = s.free.Add(time.Duration(float64(n) / float64(s.link.BytesPerSecond) * float64(time.Second)))
	return s.free
}

func sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
