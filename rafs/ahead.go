package rafs

// maxAhead bounds, in decompressed bytes, what is loaded at once for a reader of a
// file: what a link of 100 Mbit/s carries in ten round trips of 20 ms. A single
// chunk may be larger.
const maxAhead = 2 << 20

// A ChunkLoader is a [ChunkReader] that gets several chunks faster together than
// one after another.
type ChunkLoader interface {
	ChunkReader
	// LoadChunks gets chunks and holds them until release is called; release must be
	// called also after an error.
	LoadChunks(chunks []Chunk) (release func(), err error)
}

// A window is the run of chunks of a file that are held for its reader. It grows
// as long as the reader goes on where it ended, so that somebody who reads a few
// bytes costs one chunk, and somebody who reads everything few round trips.
type window struct {
	from, to int   // numbers of the chunks, to not among them
	size     int64 // bytes of them
	release  func()
}

// cover moves the window to chunk number, unless it lies inside: then the window
// holds at least the next need bytes, as far as maxAhead allows.
func (w *window) cover(data ChunkReader, chunks []Chunk, number int, need int64) {
	if w.from <= number && number < w.to {
		return
	}
	if number == w.to {
		need = max(need, 2*w.size) // of a new window nothing
	}
	w.drop()
	w.from, w.to, w.size = number, number, 0
	for w.to < len(chunks) && w.size < need {
		size := w.size + int64(chunks[w.to].UncompressedSize)
		if size > maxAhead && w.size > 0 {
			break
		}
		w.size = size
		w.to++
	}
	loader, ok := data.(ChunkLoader)
	if !ok || w.to-w.from < 2 {
		return
	}
	// What fails is asked for again when it is read, if it ever is.
	w.release, _ = loader.LoadChunks(chunks[w.from:w.to])
}

// drop lets go of the chunks, not of what was learned.
func (w *window) drop() {
	if w.release != nil {
		w.release()
		w.release = nil
	}
}
