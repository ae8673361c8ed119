package artifact

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/aquasecurity/trivy/pkg/fanal/analyzer"
	xio "github.com/aquasecurity/trivy/pkg/x/io"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// failures records the reads that failed. Trivy's analyzers log a read error
// and go on, which would leave a report that looks clean.
type failures struct {
	maxFile int64 // how many bytes may be read of a file
	mu      sync.Mutex
	paths   map[string]error
	order   []string
}

func (f *failures) add(path string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.paths == nil {
		f.paths = make(map[string]error)
	}
	if _, known := f.paths[path]; !known {
		f.paths[path] = err
		f.order = append(f.order, path)
	}
}

// err is nil if all reads succeeded.
func (f *failures) err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.order) == 0 {
		return nil
	}
	return &ReadError{Paths: slices.Clone(f.order), err: f.paths[f.order[0]]}
}

// A ReadError says that files of the image could not be read or verified, so
// that there is no report.
type ReadError struct {
	Paths []string // in the order in which they failed
	err   error    // of the first
}

func (e *ReadError) Error() string {
	first := fmt.Sprintf("read %s: %v", e.Paths[0], e.err)
	switch n := len(e.Paths); n {
	case 1:
		return first
	case 2:
		return fmt.Sprintf("%s (and 1 other file: %s)", first, e.Paths[1])
	default:
		return fmt.Sprintf("%s (and %d other files: %s)", first, n-1, summary(e.Paths[1:]))
	}
}

func (e *ReadError) Unwrap() error { return e.err }

// opener gives analyzers a file whose failed reads are recorded.
func (f *failures) opener(file *file) analyzer.Opener {
	return func() (xio.ReadSeekCloserAt, error) {
		return &recordedFile{open: file.view.Open(file.path, file.inode), path: file.path, failures: f, left: f.maxFile}, nil
	}
}

type openFile interface {
	io.ReadSeeker
	io.ReaderAt
	io.Closer
	Stat() (fs.FileInfo, error)
}

type recordedFile struct {
	open     openFile
	path     string
	failures *failures
	closed   atomic.Bool
	mu       sync.Mutex
	left     int64 // bytes that may still be read
}

func (r *recordedFile) Read(p []byte) (int, error) {
	if err := r.take(len(p)); err != nil {
		return 0, r.record(err)
	}
	n, err := r.open.Read(p)
	r.giveBack(len(p) - n)
	return n, r.record(err)
}

// take counts bytes that are to be read.
func (r *recordedFile) take(n int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.left <= 0 {
		return &rafs.LimitError{Bound: rafs.BoundFile, What: "what is read of the file", Allowed: r.failures.maxFile}
	}
	r.left -= int64(n)
	return nil
}

func (r *recordedFile) giveBack(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.left += int64(n)
}

func (r *recordedFile) ReadAt(p []byte, off int64) (int, error) {
	if err := r.take(len(p)); err != nil {
		return 0, r.record(err)
	}
	n, err := r.open.ReadAt(p, off)
	r.giveBack(len(p) - n)
	return n, r.record(err)
}

func (r *recordedFile) Seek(offset int64, whence int) (int64, error) {
	at, err := r.open.Seek(offset, whence)
	return at, r.record(err)
}

func (r *recordedFile) Stat() (fs.FileInfo, error) { return r.open.Stat() }

func (r *recordedFile) Close() error {
	r.closed.Store(true)
	return r.open.Close()
}

// record notes a failed read, but not the analyzer's mistakes: an offset that a
// malformed file made it ask for, and a file that it has closed itself.
func (r *recordedFile) record(err error) error {
	switch {
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, rafs.ErrOffset):
	case r.closed.Load() && errors.Is(err, fs.ErrClosed):
	default:
		r.failures.add(r.path, err)
	}
	return err
}

// summary lists paths for a person, the first few of them.
func summary(paths []string) string {
	const most = 5
	if len(paths) <= most {
		return strings.Join(paths, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(paths[:most], ", "), len(paths)-most)
}
