package artifact

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	bberrors "go.etcd.io/bbolt/errors"

	"github.com/aquasecurity/trivy/pkg/cache"
	ftypes "github.com/aquasecurity/trivy/pkg/fanal/types"
)

// OpenCache opens the scan cache that Trivy's options name. close must be
// called.
//
// Trivy holds the lock of its filesystem cache from beginning to end, so that a
// second process gives up after five seconds. Here the lock is held only while
// the cache is asked or written, and waited for as long as the context allows.
func OpenCache(option cache.Options) (_ cache.Cache, close func(), err error) {
	if cache.NewType(option.Backend) == cache.TypeFS {
		shared := &sharedCache{dir: option.CacheDir}
		return shared, func() { _ = shared.Close() }, nil
	}
	c, close, err := cache.New(option)
	if err != nil {
		return nil, nil, fmt.Errorf("open the scan cache: %w", err)
	}
	return c, close, nil
}

// cacheFile is where Trivy's filesystem cache lies in the cache folder.
const cacheFile = "fanal/fanal.db"

const (
	// linger is how long the file stays open after a use: to open it takes two writes
	// to the disk, and uses come close together.
	linger = 20 * time.Millisecond
	// maxOpen is after how long it is closed though uses go on, and rest for how long
	// then: others may wait, and bbolt asks for the lock every 50 ms.
	maxOpen = 500 * time.Millisecond
	rest    = 75 * time.Millisecond
)

// A sharedCache is Trivy's filesystem cache, opened for a few uses at a time.
type sharedCache struct {
	dir string
	mu  sync.Mutex // the lock does not hold within one process
	// open is nil while the file is closed; opened is since when it is not, closing
	// will close it. It is not opened before free.
	open    *cache.FSCache
	opened  time.Time
	closing *time.Timer
	free    time.Time
	// failed is why it could not be opened. Trivy may leave the file locked then, for
	// which another use would wait in vain.
	failed error
}

var _ cache.Cache = (*sharedCache)(nil)

func (s *sharedCache) use(ctx context.Context, do func(cache.FSCache) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing != nil {
		s.closing.Stop()
	}
	if err := s.acquire(ctx); err != nil {
		return err
	}
	err := do(*s.open)
	long := time.Since(s.opened) >= maxOpen
	if long {
		s.free = time.Now().Add(rest)
	}
	if long || err != nil {
		return errors.Join(err, s.release())
	}
	s.closing = time.AfterFunc(linger, func() { _ = s.Close() })
	return nil
}

// acquire opens the file, if it is not open, once nobody else has it. mu must be held.
func (s *sharedCache) acquire(ctx context.Context) error {
	if s.open != nil || s.failed != nil {
		return s.failed
	}
	time.Sleep(time.Until(s.free))
	file := filepath.Join(s.dir, cacheFile)
	for {
		emptyUnfinished(file)
		c, err := cache.NewFSCache(s.dir)
		if errors.Is(err, bberrors.ErrTimeout) && ctx.Err() == nil {
			continue
		}
		if err != nil {
			emptyUnfinished(file) // or Trivy itself could not use it
			err = fmt.Errorf("open the scan cache in %s: %w", s.dir, err)
			if !errors.Is(err, bberrors.ErrTimeout) {
				s.failed = err
			}
			return err
		}
		s.open, s.opened = &c, time.Now()
		return nil
	}
}

// release closes the file. mu must be held.
func (s *sharedCache) release() error {
	if s.open == nil {
		return nil
	}
	c := s.open
	s.open = nil
	return c.Close()
}

func (s *sharedCache) MissingBlobs(ctx context.Context, id string, blobs []string) (missing bool, missingBlobs []string, err error) {
	err = s.use(ctx, func(c cache.FSCache) (err error) {
		missing, missingBlobs, err = c.MissingBlobs(ctx, id, blobs)
		return err
	})
	return missing, missingBlobs, err
}

func (s *sharedCache) PutArtifact(ctx context.Context, id string, info ftypes.ArtifactInfo) error {
	return s.use(ctx, func(c cache.FSCache) error { return c.PutArtifact(ctx, id, info) })
}

func (s *sharedCache) PutBlob(ctx context.Context, id string, info ftypes.BlobInfo) error {
	return s.use(ctx, func(c cache.FSCache) error { return c.PutBlob(ctx, id, info) })
}

func (s *sharedCache) DeleteBlobs(ctx context.Context, ids []string) error {
	return s.use(ctx, func(c cache.FSCache) error { return c.DeleteBlobs(ctx, ids) })
}

func (s *sharedCache) GetArtifact(ctx context.Context, id string) (info ftypes.ArtifactInfo, err error) {
	err = s.use(ctx, func(c cache.FSCache) (err error) {
		info, err = c.GetArtifact(ctx, id)
		return err
	})
	return info, err
}

func (s *sharedCache) GetBlob(ctx context.Context, id string) (info ftypes.BlobInfo, err error) {
	err = s.use(ctx, func(c cache.FSCache) (err error) {
		info, err = c.GetBlob(ctx, id)
		return err
	})
	return info, err
}

func (s *sharedCache) Clear(ctx context.Context) error {
	return s.use(ctx, func(c cache.FSCache) error { return c.Clear(ctx) })
}

// Close closes the file, which the next use opens anew.
func (s *sharedCache) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.release()
}
