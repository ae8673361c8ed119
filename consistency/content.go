package consistency

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"

	"lukechampine.com/blake3"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// A cut says into which pieces a file's content is cut, and by what each is
// hashed.
type cut struct {
	// size is that of each piece but the last, which may be shorter; digester
	// hashes them all.
	size     int64
	digester rafs.Digester
	// pieces, if not nil, says so piece by piece instead.
	pieces []piece
}

// A piece is a part of a file, from the end of the one before.
type piece struct {
	end      int64
	digester rafs.Digester
	hole     bool // no data is stored for it: it has to be zeros
}

// count returns how many pieces a file has.
func (c *cut) count(fileSize int64) int64 {
	if c.pieces != nil {
		return int64(len(c.pieces))
	}
	n := fileSize / c.size
	if fileSize%c.size > 0 {
		n++
	}
	return n
}

// piece returns the k'th piece of a file.
func (c *cut) piece(k int64, fileSize int64) piece {
	if c.pieces != nil {
		return c.pieces[k]
	}
	begin := k * c.size
	return piece{end: begin + min(c.size, fileSize-begin), digester: c.digester}
}

// sums are a file's content, known by what its pieces hash to.
type sums struct {
	cut    *cut
	values [][32]byte // of holes: zero for zeros
}

// A hasher turns content into sums. It is not safe for concurrent use.
type hasher struct {
	blake3 *blake3.Hasher
	sha256 hash.Hash
	buffer []byte
}

func newHasher() *hasher {
	return &hasher{blake3: blake3.New(32, nil), sha256: sha256.New(), buffer: make([]byte, 128<<10)}
}

// sum reads the content of a file of the given size. A shorter one is
// [io.ErrUnexpectedEOF].
func (h *hasher) sum(content io.Reader, size int64, c *cut) (*sums, error) {
	s := &sums{cut: c, values: make([][32]byte, 0, min(c.count(size), 16))}
	var begin int64
	for k := range c.count(size) {
		p := c.piece(k, size)
		value, err := h.piece(content, p, p.end-begin)
		if err != nil {
			return nil, err
		}
		s.values = append(s.values, value)
		begin = p.end
	}
	return s, nil
}

func (h *hasher) piece(content io.Reader, p piece, size int64) (value [32]byte, err error) {
	var sink io.Writer
	switch {
	case p.hole:
		sink = (*zeros)(&value)
	case p.digester == rafs.Blake3:
		h.blake3.Reset()
		sink = h.blake3
	case p.digester == rafs.SHA256:
		h.sha256.Reset()
		sink = h.sha256
	default:
		return value, fmt.Errorf("digester %d: %w", p.digester, rafs.ErrUnsupported)
	}
	for size > 0 {
		n, err := io.ReadFull(content, h.buffer[:min(size, int64(len(h.buffer)))])
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return value, err
		}
		sink.Write(h.buffer[:n]) // no hash fails
		size -= int64(n)
	}
	if hash, ok := sink.(hash.Hash); ok {
		hash.Sum(value[:0])
	}
	return value, nil
}

// A contextReader ends with its context, which not every reader below does: a
// hole is read without reading anything.
type contextReader struct {
	ctx context.Context
	io.Reader
}

func (r *contextReader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.Reader.Read(p)
}

// zeros is the "digest" of a hole: not zero if another byte than zero was
// written.
type zeros [32]byte

func (z *zeros) Write(p []byte) (int, error) {
	for _, b := range p {
		z[0] |= b
	}
	return len(p), nil
}

// A treeContent is the content of a file of a Nydus image as its metadata tells
// it.
type treeContent struct {
	inode rafs.Inode
	blobs []rafs.Blob
}

// sums returns what the metadata says of the content; nil where it does not say
// it in full. Where it is cut as like says, its cut is like itself.
func (t *treeContent) sums(like *cut) (*sums, error) {
	chunks, err := t.inode.Chunks()
	if err != nil {
		return nil, err
	}
	s := &sums{values: make([][32]byte, 0, len(chunks))}
	pieces := make([]piece, 0, len(chunks))
	add := func(p piece, value [32]byte) {
		pieces = append(pieces, p)
		s.values = append(s.values, value)
	}
	var end int64
	for k := range chunks {
		c := &chunks[k]
		if !c.HasDigest || c.Digest == [32]byte{} {
			return nil, nil
		}
		if c.FileOffset > end {
			add(piece{end: c.FileOffset, hole: true}, [32]byte{})
		}
		end = c.FileOffset + int64(c.UncompressedSize)
		add(piece{end: end, digester: t.blobs[c.Blob].Digester}, c.Digest)
	}
	if end < t.inode.Size {
		add(piece{end: t.inode.Size, hole: true}, [32]byte{})
	}
	if s.cut = like; !like.is(pieces, t.inode.Size) {
		s.cut = &cut{pieces: pieces}
	}
	return s, nil
}

// is says whether a file of the given size is cut into these pieces.
func (c *cut) is(pieces []piece, fileSize int64) bool {
	if c.count(fileSize) != int64(len(pieces)) {
		return false
	}
	for k, p := range pieces {
		if p != c.piece(int64(k), fileSize) {
			return false
		}
	}
	return true
}
