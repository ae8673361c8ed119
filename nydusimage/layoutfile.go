package nydusimage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/blob"
)

// A folder is [layoutFiles] in a folder.
type folder string

func (f folder) locate(name string) (extent, error) {
	path := filepath.Join(string(f), filepath.FromSlash(name))
	info, err := os.Stat(path)
	if err != nil {
		return extent{}, err
	}
	if !info.Mode().IsRegular() {
		return extent{}, fmt.Errorf("%s is no regular file: %w", path, ErrInvalid) // a named pipe would wait
	}
	return extent{path: path, size: info.Size()}, nil
}

// A fileSource is a [blob.Source] over a file of an OCI layout. The file is
// opened for each range: an image has many, and nobody to close them.
type fileSource struct {
	files layoutFiles
	name  string
	size  int64 // as the manifest gives it
	// traffic, if not nil, counts what is read, which is no request.
	traffic *Traffic
}

func (f *fileSource) Size() int64 { return f.size }

// Path is that of the blob's own file; false where it lies in an archive.
func (f *fileSource) Path() (string, bool) {
	dir, ok := f.files.(folder)
	return filepath.Join(string(dir), filepath.FromSlash(f.name)), ok
}

func (f *fileSource) ReadRange(ctx context.Context, p []byte, off int64) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := f.read(p, off); err != nil {
		return fmt.Errorf("read %d bytes at %d of %s: %w: %w", len(p), off, f.name, blob.ErrIncomplete, err)
	}
	if f.traffic != nil {
		f.traffic.bytes.Add(int64(len(p)))
	}
	return nil
}

func (f *fileSource) read(p []byte, off int64) error {
	where, err := f.files.locate(f.name)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", blob.ErrMissing, err)
	}
	if err != nil {
		return err
	}
	if where.size != f.size {
		return fmt.Errorf("it has %d bytes, the manifest says %d: %w", where.size, f.size, blob.ErrSize)
	}
	if off < 0 || off > f.size-int64(len(p)) {
		return fmt.Errorf("it has %d bytes", f.size)
	}
	file, err := os.Open(where.path)
	if err != nil {
		return err
	}
	defer file.Close()
	if len(p) == 0 {
		return nil
	}
	_, err = file.ReadAt(p, where.off+off)
	return err
}
