package rafs

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"sync"
)

// v6FormatIndexes is the bit of a file's chunk format that says how its chunks
// are addressed: by device and block.
const v6FormatIndexes = 0x20

// v6FormatBits are the bits of a file's chunk format that hold the size of its
// chunks: the binary logarithm of blocks.
const v6FormatBits = 0x1f

// A v6ChunkAddress is how an inode names a chunk: 8 bits of blob, 24 bits of
// chunk in the blob, 32 bits of block in the decompressed blob.
type v6ChunkAddress uint64

func newV6ChunkAddress(blob, index, block uint64) v6ChunkAddress {
	return v6ChunkAddress(blob<<56 | index<<32 | block)
}

func (a v6ChunkAddress) blob() int     { return int(a >> 56) }
func (a v6ChunkAddress) index() uint32 { return uint32(a>>32) & (maxBlobChunks - 1) }
func (a v6ChunkAddress) block() uint64 { return uint64(uint32(a)) }

// decodeV6ChunkAddress decodes an entry of an inode's list. The device number
// counts from 1: 0 is the bootstrap itself.
func decodeV6ChunkAddress(b []byte) (v6ChunkAddress, error) {
	low, high := uint64(le.Uint16(b)), uint64(le.Uint16(b[2:]))
	device := high & 0xff
	if device == 0 {
		return 0, corruptf("it is in no blob")
	}
	return newV6ChunkAddress(device-1, high>>8<<16|low, uint64(le.Uint32(b[4:]))), nil
}

// A v6ChunkMap finds records in the chunk table, which is sorted by digest,
// by address. It is sorted once, when the first file asks.
type v6ChunkMap struct {
	table  []byte
	once   sync.Once
	places []v6ChunkPlace // ordered by address
	err    error
}

type v6ChunkPlace struct {
	address v6ChunkAddress
	record  uint32 // number in the table; 2 GiB hold fewer than 2^25
}

func (m *v6ChunkMap) at(record uint32) []byte {
	return m.table[int(record)*chunkRecordSize:][:chunkRecordSize]
}

// find returns the record at an address; ok is false if there is none.
func (m *v6ChunkMap) find(address v6ChunkAddress) (c Chunk, ok bool, err error) {
	m.once.Do(func() { m.places, m.err = m.sort() })
	if m.err != nil {
		return Chunk{}, false, m.err
	}
	k, ok := slices.BinarySearchFunc(m.places, address, func(p v6ChunkPlace, a v6ChunkAddress) int {
		return cmp.Compare(p.address, a)
	})
	if !ok {
		return Chunk{}, false, nil
	}
	return decodeChunk(m.at(m.places[k].record)), true, nil
}

func (m *v6ChunkMap) sort() ([]v6ChunkPlace, error) {
	places := make([]v6ChunkPlace, len(m.table)/chunkRecordSize)
	for k := range places {
		c := decodeChunk(m.at(uint32(k)))
		block := c.UncompressedOffset >> v6BlockBits
		if c.Blob < 0 || c.Blob > 0xff || c.Index >= maxBlobChunks || block > 0xffffffff {
			return nil, corruptf("record %d of the chunk table (chunk %d of blob %d) cannot be addressed", k, c.Index, c.Blob)
		}
		places[k] = v6ChunkPlace{
			address: newV6ChunkAddress(uint64(c.Blob), uint64(c.Index), block),
			record:  uint32(k),
		}
	}
	slices.SortFunc(places, func(a, b v6ChunkPlace) int { return cmp.Compare(a.address, b.address) })
	for k := 1; k < len(places); k++ {
		a, b := places[k-1], places[k]
		if a.address == b.address && !sameChunk(m.at(a.record), m.at(b.record)) {
			return nil, corruptf("records %d and %d of the chunk table contradict each other", a.record, b.record)
		}
	}
	return places, nil
}

// sameChunk tells whether two records say the same. Of two that do not, a
// runtime may take either. The file offset does not count: it is that of any
// file that has the chunk.
func sameChunk(a, b []byte) bool {
	return bytes.Equal(a[:64], b[:64]) && bytes.Equal(a[72:], b[72:])
}

func (f *v6) countChunks(node uint64) (uint64, error) {
	n, err := f.find(node)
	if err != nil {
		return 0, err
	}
	list, err := f.chunkAddresses(n)
	return uint64(len(list)) / v6ChunkAddressSize, err
}

// chunkAddresses returns the stored list of a regular file's chunks.
func (f *v6) chunkAddresses(n v6Inode) ([]byte, error) {
	if n.layout() != v6LayoutChunked {
		return nil, unsupportedf("a file with data layout %d", n.layout())
	}
	if n.union()&v6FormatIndexes == 0 {
		return nil, unsupportedf("a file with chunk format %#x", n.union())
	}
	count := f.chunkCount(n)
	if count > uint64(len(f.metadata))/v6ChunkAddressSize {
		return nil, corruptf("%d chunks do not fit into a bootstrap of %d bytes", count, len(f.metadata))
	}
	return f.metadata.at("chunk list", align8(n.tailAt()), count*v6ChunkAddressSize)
}

func (f *v6) chunks(node uint64) ([]Chunk, error) {
	n, err := f.find(node)
	if err != nil {
		return nil, err
	}
	list, err := f.chunkAddresses(n)
	if err != nil {
		return nil, err
	}
	chunks := make([]Chunk, len(list)/v6ChunkAddressSize)
	for k := range chunks {
		offset := uint64(k) * uint64(f.super.ChunkSize)
		size := min(n.size()-offset, uint64(f.super.ChunkSize))
		if chunks[k], err = f.chunk(list[k*v6ChunkAddressSize:], uint32(size)); err != nil {
			return nil, fmt.Errorf("chunk %d: %w", k, err)
		}
		chunks[k].FileOffset = int64(offset)
	}
	return chunks, nil
}

// chunk looks up one entry of a file's list; size is what the file needs
// there. The caller sets the file offset.
func (f *v6) chunk(entry []byte, size uint32) (Chunk, error) {
	address, err := decodeV6ChunkAddress(entry)
	if err != nil {
		return Chunk{}, err
	}
	if address.blob() >= len(f.blobTable) {
		return Chunk{}, corruptf("blob %d is not one of the %d in the blob table", address.blob(), len(f.blobTable))
	}
	if count := f.blobTable[address.blob()].ChunkCount; address.index() >= count {
		return Chunk{}, corruptf("it is number %d of the %d in blob %d", address.index(), count, address.blob())
	}
	if len(f.chunkMap.table) == 0 {
		return f.bare(address, size)
	}
	c, ok, err := f.chunkMap.find(address)
	switch {
	case err != nil:
		return Chunk{}, err
	case !ok:
		return Chunk{}, corruptf("number %d of blob %d at block %d is not in the chunk table",
			address.index(), address.blob(), address.block())
	case c.UncompressedSize != size:
		return Chunk{}, corruptf("it has %d bytes in the chunk table where the file needs %d", c.UncompressedSize, size)
	}
	return c, nil
}

// bare returns a chunk without a record, as far as it is known.
func (f *v6) bare(address v6ChunkAddress, size uint32) (Chunk, error) {
	c := Chunk{
		Blob:               address.blob(),
		Index:              address.index(),
		UncompressedOffset: address.block() << v6BlockBits,
		UncompressedSize:   size,
	}
	if f.complete == nil {
		return c, nil
	}
	return c, f.complete(&c)
}

// withChunks returns the bootstrap with something that completes its chunks.
func (f *v6) withChunks(complete func(*Chunk) error) *v6 {
	return &v6{
		metadata: f.metadata, super: f.super, blobTable: f.blobTable, inodesAt: f.inodesAt, rootNode: f.rootNode,
		complete: complete,
	}
}
