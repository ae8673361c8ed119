package blob

import "bytes"

const (
	// maxSpare bounds the memory of the bytes that were fetched along.
	maxSpare = 16 << 20
	// maxSpares bounds how many runs of them are looked through for each chunk. Of real
	// images some hundred are kept.
	maxSpares = 1024
)

// A spare is a run of bytes of a blob that was fetched only because it lay in
// the gap between two wanted chunks. What is wanted later may lie in it.
type spare struct {
	off  int64
	data []byte
}

// keepSpares keeps the gaps of a span that has been read.
func (r *Reader) keepSpares(s span, data []byte) {
	end := s.off
	var gaps []spare
	for _, e := range s.entries {
		if e.off > end {
			gaps = append(gaps, spare{end, bytes.Clone(data[end-s.off : e.off-s.off])})
		}
		end = max(end, e.off+int64(e.stored))
	}
	if len(gaps) == 0 {
		return
	}
	id := s.entries[0].blob
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, g := range gaps {
		if r.spareBytes+int64(len(g.data)) > maxSpare || len(r.spares[id]) == maxSpares {
			return
		}
		r.spareBytes += int64(len(g.data))
		r.spares[id] = append(r.spares[id], g)
	}
}

// spare returns the stored bytes of a chunk that was fetched along, or nil.
func (r *Reader) spare(e *entry) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.spares[e.blob] {
		if e.off >= s.off && e.off+int64(e.stored) <= s.off+int64(len(s.data)) {
			return s.data[e.off-s.off:][:e.stored]
		}
	}
	return nil
}
