package rafs

import (
	"bytes"
	"fmt"
)

// xattrArea returns the extended attributes of an inode: pairs of a name and a
// value. It is empty if there are none.
func (f *v5) xattrArea(n v5Inode) ([]byte, error) {
	if !n.has(v5InodeHasXattr) {
		return nil, nil
	}
	b, err := f.metadata.at("size of extended attributes", n.xattrAt, 8)
	if err != nil {
		return nil, err
	}
	return f.metadata.at("extended attributes", n.xattrAt+8, le.Uint64(b))
}

// chunksAt returns the offset of the chunks of an inode, which is also the
// end of all that comes before them.
func (f *v5) chunksAt(n v5Inode) (uint64, error) {
	area, err := f.xattrArea(n)
	switch {
	case err != nil:
		return 0, err
	case !n.has(v5InodeHasXattr):
		return n.xattrAt, nil
	}
	return n.xattrAt + 8 + align8(uint64(len(area))), nil
}

func (f *v5) xattrs(node uint64, yield func(name string, value []byte) error) error {
	n, err := f.find(node)
	if err != nil {
		return err
	}
	area, err := f.xattrArea(n)
	if err != nil {
		return err
	}
	for len(area) > 0 {
		if len(area) < 4 || uint64(le.Uint32(area)) > uint64(len(area)-4) {
			return corruptf("a pair ends outside the %d bytes that are left", len(area))
		}
		size := 4 + int(le.Uint32(area))
		// The value may have NUL bytes of its own.
		name, value, ok := bytes.Cut(area[4:size], []byte{0})
		if !ok || len(name) == 0 {
			return corruptf("the pair %q has no name", area[4:size])
		}
		if err := yield(string(name), value); err != nil {
			return err
		}
		area = area[size:]
	}
	return nil
}

func (f *v5) countChunks(node uint64) (uint64, error) {
	n, err := f.find(node)
	if err != nil {
		return 0, err
	}
	records, err := f.chunkRecords(n)
	return uint64(len(records)) / chunkRecordSize, err
}

func (f *v5) chunks(node uint64) ([]Chunk, error) {
	n, err := f.find(node)
	if err != nil {
		return nil, err
	}
	records, err := f.chunkRecords(n)
	if err != nil {
		return nil, err
	}
	chunks := make([]Chunk, n.childCount())
	var end uint64 // of the chunks before, in the file
	for k := range chunks {
		c, err := f.chunk(records[k*chunkRecordSize:])
		if err == nil {
			err = f.checkPlace(n, c, end)
		}
		if err != nil {
			return nil, fmt.Errorf("chunk %d: %w", k, err)
		}
		chunks[k] = c
		end = uint64(c.FileOffset) + uint64(c.UncompressedSize)
	}
	if end != n.size() && !n.has(v5InodeHasHole) {
		return nil, corruptf("%d chunks end at %d in a file of %d bytes without holes", len(chunks), end, n.size())
	}
	return chunks, nil
}

// checkPlace checks where a chunk lies in its file; end is where the chunks
// before it end.
func (f *v5) checkPlace(n v5Inode, c Chunk, end uint64) error {
	offset, size := uint64(c.FileOffset), uint64(c.UncompressedSize)
	switch {
	case size == 0 || size > maxChunkSize:
		return corruptf("it has %d bytes", size)
	case offset < end:
		return corruptf("its file offset %d is before %d, where the chunk before ends", offset, end)
	case offset > n.size() || size > n.size()-offset:
		return corruptf("its %d bytes at %d are not in a file of %d bytes", size, offset, n.size())
	case n.has(v5InodeHasHole) && offset > end:
		// It adds up the chunks that a read needs (rafsv5_alloc_bio_vecs), so that what is
		// behind a hole is shown in it. Behind the last chunk the kernel shows zeros.
		return corruptf("there is a hole of %d bytes before it, in which nydusd shows it", offset-end)
	case n.has(v5InodeHasHole):
		return nil
	// nydusd finds the chunk of an offset by division in a file without holes.
	case offset != end || offset%uint64(f.super.ChunkSize) != 0 || size > uint64(f.super.ChunkSize):
		return corruptf("its %d bytes at %d leave the stride of %d bytes", size, offset, f.super.ChunkSize)
	}
	return nil
}

// chunk decodes a chunk and checks that its blob exists.
func (f *v5) chunk(record []byte) (Chunk, error) {
	c := decodeChunk(record)
	if c.Blob < 0 || c.Blob >= len(f.blobTable) {
		return Chunk{}, corruptf("blob %d is not one of the %d in the blob table", c.Blob, len(f.blobTable))
	}
	return c, nil
}
