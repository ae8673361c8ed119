package rafs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"sort"
	"sync"
	"sync/atomic"
)

// ErrOffset is wrapped by errors about an offset that no file has: the caller's mistake,
// whatever the file is.
var ErrOffset = errors.New("invalid offset")

var (
	errNoData    = errors.New("no reader of file data was given")
	errIsDir     = errors.New("is a directory")
	errIsSymlink = errors.New("is a symbolic link")
	errWhence    = fmt.Errorf("%w: unknown whence", ErrOffset)
	errNegative  = fmt.Errorf("%w: below zero", ErrOffset)
)

// A File is an opened inode: an [fs.File], [fs.ReadDirFile], [io.Seeker] and
// [io.ReaderAt]. Opening costs nothing; the chunk list is decoded by the first
// read. ReadAt may be called from several goroutines at once, the other
// methods not.
//
// ReadAt asks the [ChunkReader] for each chunk that covers the range; of a
// [ChunkLoader] for all of them at once. Read keeps the chunk in which it stops, so
// that reading a file in small pieces asks for each chunk once, and of a ChunkLoader
// the more of what follows the longer it goes on. Close lets go of that.
type File struct {
	inode  Inode
	name   string
	data   ChunkReader
	closed atomic.Bool

	chunksOnce sync.Once
	chunkList  []Chunk
	chunksErr  error

	offset int64 // of Read and Seek
	kept   keptChunk
	window window // of Read

	entries     []fs.DirEntry // that ReadDir has not given out
	entriesRead bool
}

// A keptChunk is the chunk in which the last Read stopped, or none.
type keptChunk struct {
	number int
	bytes  []byte
}

var (
	_ fs.ReadDirFile = (*File)(nil)
	_ io.ReadSeeker  = (*File)(nil)
	_ io.ReaderAt    = (*File)(nil)
)

// Open returns i as a file. The name, usually a path, appears in errors; its
// last element is the name that Stat gives. A nil data reader is an error only
// when data is read.
func (i Inode) Open(name string, data ChunkReader) *File {
	return &File{inode: i, name: name, data: data}
}

// Stat returns the inode's [fs.FileInfo].
func (f *File) Stat() (fs.FileInfo, error) {
	if f.closed.Load() {
		return nil, f.fail("stat", fs.ErrClosed)
	}
	return f.inode.FileInfo(path.Base(f.name)), nil
}

// Close makes later calls fail with [fs.ErrClosed].
func (f *File) Close() error {
	if f.closed.Swap(true) {
		return f.fail("close", fs.ErrClosed)
	}
	f.window.drop()
	f.kept, f.entries = keptChunk{}, nil
	return nil
}

// Read reads from the current offset.
func (f *File) Read(b []byte) (int, error) {
	if err := f.readable(); err != nil {
		return 0, f.fail("read", err)
	}
	if f.offset >= f.size() {
		return 0, io.EOF
	}
	n, err := f.readRange(b, f.offset, &f.window, &f.kept)
	f.offset += int64(n)
	return n, err
}

// ReadAt reads len(b) bytes at an offset in the file, or fewer with [io.EOF]
// at its end.
func (f *File) ReadAt(b []byte, offset int64) (int, error) {
	if err := f.readable(); err != nil {
		return 0, f.fail("read", err)
	}
	if offset < 0 {
		return 0, f.fail("read", errNegative)
	}
	if offset >= f.size() {
		return 0, io.EOF
	}
	var w window
	defer w.drop()
	n, err := f.readRange(b, offset, &w, nil)
	if err == nil && n < len(b) {
		err = io.EOF
	}
	return n, err
}

// Seek sets the offset of the next Read. It may lie behind the end.
func (f *File) Seek(offset int64, whence int) (int64, error) {
	if err := f.readable(); err != nil {
		return 0, f.fail("seek", err)
	}
	var base int64
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		base = f.offset
	case io.SeekEnd:
		base = f.size()
	default:
		return 0, f.fail("seek", errWhence)
	}
	// The sum of a base >= 0 and an offset wraps around to below 0 only.
	if base+offset < 0 {
		return 0, f.fail("seek", errNegative)
	}
	f.offset = base + offset
	return f.offset, nil
}

// ReadDir reads the children of a directory, as [fs.ReadDirFile] has it.
func (f *File) ReadDir(n int) ([]fs.DirEntry, error) {
	if f.closed.Load() {
		return nil, f.fail("readdir", fs.ErrClosed)
	}
	if !f.entriesRead {
		entries, err := f.inode.dirEntries()
		if err != nil {
			return nil, f.fail("readdir", err)
		}
		f.entries, f.entriesRead = entries, true
	}
	if n <= 0 || n > len(f.entries) {
		if n > 0 && len(f.entries) == 0 {
			return nil, io.EOF
		}
		n = len(f.entries)
	}
	list := f.entries[:n:n]
	f.entries = f.entries[n:]
	return list, nil
}

// readable tells why nothing can be read, if so. Devices, pipes and sockets
// are read as empty files.
func (f *File) readable() error {
	switch {
	case f.closed.Load():
		return fs.ErrClosed
	case f.inode.IsDir():
		return errIsDir
	case f.inode.IsSymlink():
		return errIsSymlink
	}
	return nil
}

// size returns how many bytes can be read.
func (f *File) size() int64 {
	if !f.inode.IsRegular() {
		return 0
	}
	return f.inode.Size
}

func (f *File) fail(op string, err error) error {
	return &fs.PathError{Op: op, Path: f.name, Err: err}
}

// readRange reads from an offset inside the file up to its end. It moves the
// window along. If kept is not nil, it is used and updated.
func (f *File) readRange(b []byte, offset int64, w *window, kept *keptChunk) (int, error) {
	if f.data == nil {
		return 0, f.fail("read", errNoData)
	}
	chunks, err := f.chunks()
	if err != nil {
		return 0, f.fail("read", err)
	}
	b = b[:min(int64(len(b)), f.size()-offset)]
	number := sort.Search(len(chunks), func(k int) bool { return chunks[k].end() > offset })
	done := 0
	for done < len(b) {
		at := offset + int64(done)
		if number == len(chunks) || at < chunks[number].FileOffset {
			hole := f.size() - at
			if number < len(chunks) {
				hole = chunks[number].FileOffset - at
			}
			zeros := b[done:][:min(int64(len(b)-done), hole)]
			clear(zeros)
			done += len(zeros)
			continue
		}
		c := &chunks[number]
		w.cover(f.data, chunks, number, at-c.FileOffset+int64(len(b)-done))
		data, err := f.readChunk(chunks, number, kept)
		if err != nil {
			return done, err
		}
		n := copy(b[done:], data[at-c.FileOffset:])
		done += n
		if at+int64(n) == c.end() {
			number++
			if kept != nil {
				*kept = keptChunk{}
			}
		}
	}
	return done, nil
}

// readChunk returns the bytes of a chunk, from kept if it has them.
//
// It reads chunks that have the flag ChunkHole, too: nydusd does not know the
// flag, so a chunk's bytes are what its digest says.
func (f *File) readChunk(chunks []Chunk, number int, kept *keptChunk) ([]byte, error) {
	if kept != nil && kept.bytes != nil && kept.number == number {
		return kept.bytes, nil
	}
	c := &chunks[number]
	data, err := f.data.ReadChunk(c)
	if err == nil && len(data) != int(c.UncompressedSize) {
		err = fmt.Errorf("got %d bytes instead of %d", len(data), c.UncompressedSize)
	}
	if err != nil {
		return nil, fmt.Errorf("read chunk %d of %s: %w", number, f.name, err)
	}
	if kept != nil {
		*kept = keptChunk{number: number, bytes: data}
	}
	return data, nil
}

func (f *File) chunks() ([]Chunk, error) {
	f.chunksOnce.Do(func() { f.chunkList, f.chunksErr = f.inode.Chunks() })
	return f.chunkList, f.chunksErr
}

// end returns where c ends in its file.
func (c *Chunk) end() int64 { return c.FileOffset + int64(c.UncompressedSize) }
