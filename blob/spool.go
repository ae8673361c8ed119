package blob

import (
	"fmt"
	"os"
)

// A spool is a temporary file that has no name, so that nothing is left of it
// when the process is killed. It exists only where a registry has no ranges.
type spool struct{ *os.File }

func newSpool() (*spool, error) {
	f, err := os.CreateTemp("", "trivy-nydus-blob-")
	if err != nil {
		return nil, fmt.Errorf("store a blob from a registry without ranges: %w", err)
	}
	// Windows does not remove open files; there Close does it.
	_ = os.Remove(f.Name())
	return &spool{f}, nil
}

// Close frees the file's space.
func (s *spool) Close() error {
	err := s.File.Close()
	_ = os.Remove(s.Name())
	return err
}
