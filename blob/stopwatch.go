package blob

import (
	"sync"
	"time"
)

// A Stopwatch measures the time in which at least one of several things is under
// way. It is safe for concurrent use; the zero value shows zero.
type Stopwatch struct {
	mu       sync.Mutex
	running  int
	since    time.Time
	measured time.Duration
}

// Start says that a thing begins; stop, which may be called again, that it has
// ended.
func (s *Stopwatch) Start() (stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running++; s.running == 1 {
		s.since = time.Now()
	}
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.running--; s.running == 0 {
			s.measured += time.Since(s.since)
		}
	})
}

// Elapsed is the time so far.
func (s *Stopwatch) Elapsed() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running == 0 {
		return s.measured
	}
	return s.measured + time.Since(s.since)
}
