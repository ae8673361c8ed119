package blob

import (
	"context"
	"io"
)

// A SizedReaderAt is a file that knows its size.
type SizedReaderAt interface {
	io.ReaderAt
	Size() int64
}

// FileSource makes a source of a file.
func FileSource(file SizedReaderAt) Source { return fileRanges{file} }

type fileRanges struct{ SizedReaderAt }

func (f fileRanges) ReadRange(_ context.Context, p []byte, off int64) error {
	_, err := f.ReadAt(p, off)
	return err
}
