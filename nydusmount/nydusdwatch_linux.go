package nydusmount

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// nydusd bounds nothing of what an image or a registry makes it take: it keeps all
// that it reads, decompressed, logs the text of each error that a registry answers, as
// long as it is, and has it in memory before. So the watcher looks.
const (
	// diskPause is between looks at the run folder. What a disk takes meanwhile may go
	// beyond the bound.
	diskPause = 250 * time.Millisecond
	// maxLog is how long nydusd's log may get, in bytes: at its level some lines for
	// each read that fails.
	maxLog = 16 << 20
	// maxNydusdMemory bounds nydusd's private memory, in bytes. It takes some 100 MB; a
	// bootstrap and its cache are mapped files, which do not count.
	maxNydusdMemory = 4 << 30
)

// limitMemory has what start starts inherit a bound on its memory, at which nydusd
// aborts. One that has capabilities of its own lets nobody set it later.
func limitMemory(start func() error) error {
	var own unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_DATA, &own); err != nil {
		return fmt.Errorf("limit of memory: %w", err)
	}
	bounded := unix.Rlimit{Cur: min(own.Cur, maxNydusdMemory), Max: own.Max}
	if err := unix.Setrlimit(unix.RLIMIT_DATA, &bounded); err != nil {
		return fmt.Errorf("limit of memory: %w", err)
	}
	err := start()
	return errors.Join(err, unix.Setrlimit(unix.RLIMIT_DATA, &own))
}

// overflow waits until the files of a run folder take more than they may, maxDisk
// bytes, and says so; or until ctx ends.
func (r *runFolder) overflow(ctx context.Context, maxDisk int64) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(diskPause):
		}
		if info, err := os.Stat(r.file(logFile)); err == nil && info.Size() > maxLog {
			return fmt.Errorf("%w was ended: its log has over %d bytes", ErrNydusd, maxLog)
		}
		if r.diskUse() > maxDisk {
			return &rafs.LimitError{Bound: rafs.BoundTemp, What: "what nydusd keeps of the image's data on disk", Allowed: maxDisk}
		}
	}
}

// mountPause is between looks at what is mounted.
const mountPause = time.Second

// unmounted waits until others have taken a mount away, and says so; or until ctx ends.
// nydusd goes on then, and its folder looks like that of an empty image.
func unmounted(ctx context.Context, point, device string) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(mountPause):
		}
		if mounts, err := mountsOf(device); err == nil && len(mounts) == 0 {
			return fmt.Errorf("%w was ended: somebody has unmounted %s", ErrNydusd, point)
		}
	}
}

// diskUse is how many bytes nydusd's cache takes on disk. Its files have holes.
func (r *runFolder) diskUse() (bytes int64) {
	_ = filepath.WalkDir(r.file(cacheDir), func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil // gone meanwhile
		}
		var stat unix.Stat_t
		if unix.Lstat(path, &stat) == nil {
			bytes += stat.Blocks * 512
		}
		return nil
	})
	return bytes
}
