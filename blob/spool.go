package blob

import (
	"fmt"
	"io"
	"os"
)

// A spool is a temporary file that has no name, so that nothing is left of it
// when the process is killed. It exists only where a registry has no ranges.
type spool struct{ *os.File }

// newSpool stores a body that must have size bytes. It reads no more than one
// byte beyond.
func newSpool(body io.Reader, size int64) (_ *spool, err error) {
	f, err := os.CreateTemp("", "trivy-nydus-blob-")
	if err != nil {
		return nil, fmt.Errorf("store a blob from a registry without ranges: %w", err)
	}
	// Windows does not remove open files; there Close does it.
	_ = os.Remove(f.Name())
	s := &spool{f}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	n, err := io.Copy(f, &brokenReader{io.LimitReader(body, size+1)})
	switch {
	case err != nil:
		return nil, fmt.Errorf("store a blob from a registry without ranges: %w", err)
	case n < size:
		return nil, fmt.Errorf("%w after %d of %d bytes", errBroken, n, size)
	case n > size:
		return nil, fmt.Errorf("the registry sent more than the blob's %d bytes", size)
	}
	return s, nil
}

// Close frees the file's space.
func (s *spool) Close() error {
	err := s.File.Close()
	_ = os.Remove(s.Name())
	return err
}

// brokenReader tells errors of the body from those of the disk.
type brokenReader struct{ io.Reader }

func (r *brokenReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("%w: %w", errBroken, err)
	}
	return n, err
}
