package blob

import (
	"cmp"
	"slices"
	"time"
)

// Stats counts what a Reader has done so far.
type Stats struct {
	Read         int64         // stored bytes of the chunks that were read, each byte once
	Chunks       int64         // chunks decompressed and verified
	ChunksAgain  int64         // of these, and of what several lie in, how many had been before
	Bytes        int64         // their decompressed size
	DecodingTime time.Duration // decompressing and hashing, over all goroutines
}

// Stats returns the counts so far.
func (r *Reader) Stats() Stats {
	return Stats{
		Read:         r.bytesRead(),
		Chunks:       r.stats.chunks.Load(),
		ChunksAgain:  r.stats.again.Load(),
		Bytes:        r.stats.bytes.Load(),
		DecodingTime: time.Duration(r.stats.decoding.Load()),
	}
}

// An extent is a range of a blob, in bytes.
type extent struct{ off, end int64 }

// noteRead notes that somebody asks for a chunk's bytes, and where it is stored that
// is read for the first time, or the unit in which it lies.
func (r *Reader) noteRead(e *entry) {
	k := e.key
	if e.unit != nil {
		k = e.unit.key
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	e.read = true
	if t := r.seen[k]; !t.read {
		t.read = true
		r.seen[k] = t
		r.read[k.blob] = append(r.read[k.blob], extent{k.off, k.off + int64(k.stored)})
	}
}

// bytesRead is the stored bytes of all that was read. Slices of a gzip stream
// overlap.
func (r *Reader) bytesRead() (sum int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, extents := range r.read {
		slices.SortFunc(extents, func(a, b extent) int { return cmp.Compare(a.off, b.off) })
		var end int64
		for _, e := range extents {
			sum += max(e.end-max(e.off, end), 0)
			end = max(end, e.end)
		}
	}
	return sum
}
