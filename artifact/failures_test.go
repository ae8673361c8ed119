package artifact

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// A failingFile is a file of which all fails with err.
type failingFile struct{ err error }

func (f failingFile) Read([]byte) (int, error)          { return 0, f.err }
func (f failingFile) ReadAt([]byte, int64) (int, error) { return 0, f.err }
func (f failingFile) Seek(int64, int) (int64, error)    { return 0, f.err }
func (f failingFile) Stat() (fs.FileInfo, error)        { return nil, f.err }
func (f failingFile) Close() error                      { return nil }

// TestFailuresAreRecorded: whatever an analyzer does with a file that cannot be read, it
// is known to have failed; what only the analyzer did wrong is not.
func TestFailuresAreRecorded(t *testing.T) {
	broken := errors.New("input/output error")
	uses := map[string]func(*recordedFile) error{
		"Read":   func(f *recordedFile) error { _, err := f.Read(make([]byte, 1)); return err },
		"ReadAt": func(f *recordedFile) error { _, err := f.ReadAt(make([]byte, 1), 0); return err },
		"Seek":   func(f *recordedFile) error { _, err := f.Seek(0, io.SeekEnd); return err },
		"io.Copy": func(f *recordedFile) error {
			_, err := io.Copy(&bytes.Buffer{}, f)
			return err
		},
	}
	for name, use := range uses {
		for _, c := range []struct {
			err      error
			close    bool
			recorded bool
		}{
			{broken, false, true},
			{broken, true, true},
			{fs.ErrClosed, false, true}, // the mount has gone
			{fs.ErrClosed, true, false},
			{fmt.Errorf("seek: %w", rafs.ErrOffset), false, false},
		} {
			t.Run(fmt.Sprintf("%s: %v, closed %v", name, c.err, c.close), func(t *testing.T) {
				f := &failures{}
				file := &recordedFile{open: failingFile{c.err}, path: "etc/passwd", failures: f, left: 10}
				if c.close {
					assert.NoError(t, file.Close())
				}
				assert.ErrorIs(t, use(file), c.err)
				if !c.recorded {
					assert.NoError(t, f.err())
					return
				}
				assert.ErrorContains(t, f.err(), "read etc/passwd: "+c.err.Error())
			})
		}
	}
}
