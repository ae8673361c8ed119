package blob

import "context"

// Ahead returns source with its n bytes at off read in one request: what lies
// in there is served from memory, the rest by source.
func Ahead(ctx context.Context, source Source, off, n int64) (Source, error) {
	if err := checkRange(off, n, source.Size()); err != nil {
		return nil, err
	}
	data := make([]byte, n)
	if err := source.ReadRange(ctx, data, off); err != nil {
		return nil, err
	}
	return &window{Source: source, off: off, data: data}, nil
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
