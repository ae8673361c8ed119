package blob

import "context"

// Ahead returns source with the bytes at off that have been read already: what
// lies in there is served from memory, the rest by source.
func Ahead(source Source, off int64, data []byte) Source {
	return &window{Source: source, off: off, data: data}
}

// A window is a source of which a part is in memory.
type window struct {
	Source
	off  int64
	data []byte
}

func (w *window) ReadRange(ctx context.Context, p []byte, off int64) error {
	if off >= w.off && off+int64(len(p)) <= w.off+int64(len(w.data)) {
		copy(p, w.data[off-w.off:])
		return nil
	}
	return w.Source.ReadRange(ctx, p, off)
}
