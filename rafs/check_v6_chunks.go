package rafs

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
)

// A v6TableCheck checks the chunk table. It finds records as [v6ChunkMap] does,
// but in a table with contradictions, too.
type v6TableCheck struct {
	*v6
	at     uint64         // where the table lies in the bootstrap
	places []v6ChunkPlace // ordered by address; without those that have none
	used   bitSet         // records
}

func newV6TableCheck(f *v6) v6TableCheck {
	_, x := f.superRecord()
	t := v6TableCheck{v6: f, at: le.Uint64(x[24:])}
	count := t.count()
	t.used = make(bitSet, count/64+1)
	t.places = make([]v6ChunkPlace, 0, count)
	for k := range uint32(count) {
		if address, ok := recordAddress(t.decode(k)); ok {
			t.places = append(t.places, v6ChunkPlace{address, k})
		}
	}
	slices.SortFunc(t.places, func(a, b v6ChunkPlace) int {
		return cmp.Or(cmp.Compare(a.address, b.address), cmp.Compare(a.record, b.record))
	})
	return t
}

func (t *v6TableCheck) count() int             { return len(t.chunkMap.table) / chunkRecordSize }
func (t *v6TableCheck) decode(k uint32) Chunk  { return decodeChunk(t.chunkMap.at(k)) }
func (t *v6TableCheck) place(k uint32) uint64  { return t.at + uint64(k)*chunkRecordSize }
func (t *v6TableCheck) field(k uint32) string  { return fmt.Sprintf("chunk table record %d", k) }
func (t *v6TableCheck) digest(k uint32) []byte { return t.chunkMap.at(k)[:32] }

// recordAddress returns the address by which an inode names a record; ok is
// false where it cannot.
func recordAddress(c Chunk) (a v6ChunkAddress, ok bool) {
	block := c.UncompressedOffset >> v6BlockBits
	if c.Blob < 0 || c.Blob > 0xff || c.Index >= maxBlobChunks || block > 0xffffffff {
		return 0, false
	}
	return newV6ChunkAddress(uint64(c.Blob), uint64(c.Index), block), true
}

// find returns the number of the first record at an address.
func (t *v6TableCheck) find(address v6ChunkAddress) (record uint32, ok bool) {
	k, ok := slices.BinarySearchFunc(t.places, address, func(p v6ChunkPlace, a v6ChunkAddress) int {
		return cmp.Compare(p.address, a)
	})
	if !ok {
		return 0, false
	}
	return t.places[k].record, true
}

// chunks implements [formatCheck].
func (f *v6Check) chunks(path string, i Inode) {
	if i.Size == 0 {
		return // it has no list
	}
	n, list, err := f.addresses(i.node)
	if err != nil {
		f.c.unreadable(path, "chunks", err)
		return
	}
	if k, ok := f.chunksAgree(n); !ok {
		f.c.problem(path, "chunk size", fmt.Sprintf("2^%d bytes, as in the superblock", f.chunkBits()), fmt.Sprintf("2^%d, which leads chunk %d elsewhere", n.chunkBits(), k))
	}
	for k := range uint64(len(list) / v6ChunkAddressSize) {
		size := min(n.size()-k*uint64(f.super.ChunkSize), uint64(f.super.ChunkSize))
		f.checkAddress(path, fmt.Sprintf("chunk %d", k), list[k*v6ChunkAddressSize:], size)
	}
}

// checkAddress checks an entry of a file's list; size is what the file needs
// there.
func (f *v6Check) checkAddress(path, field string, entry []byte, size uint64) {
	a, err := decodeV6ChunkAddress(entry)
	switch {
	case err != nil:
		f.c.unreadable(path, field, err)
		return
	case a.blob() >= len(f.blobTable):
		f.c.problem(path, field, fmt.Sprintf("in one of %d blobs", len(f.blobTable)), fmt.Sprintf("in blob %d", a.blob()))
		return
	}
	b := &f.blobTable[a.blob()]
	if a.index() >= b.ChunkCount {
		f.c.problem(path, field, fmt.Sprintf("one of %d in blob %d", b.ChunkCount, a.blob()), fmt.Sprintf("number %d", a.index()))
	}
	if end := a.block()<<v6BlockBits + size; end > b.UncompressedSize {
		f.c.problem(path, field, fmt.Sprintf("in the %d uncompressed bytes of blob %d", b.UncompressedSize, a.blob()), fmt.Sprintf("up to %d", end))
	}
	if f.table.count() == 0 {
		return
	}
	record, ok := f.table.find(a)
	if !ok {
		f.c.problem(path, field, "in the chunk table", fmt.Sprintf("number %d of blob %d at block %d", a.index(), a.blob(), a.block()))
		return
	}
	f.table.used.add(uint64(record))
	if c := f.table.decode(record); uint64(c.UncompressedSize) != size {
		f.c.problem(path, field, fmt.Sprintf("%d bytes, as the file needs", size), fmt.Sprintf("%d in the chunk table", c.UncompressedSize))
	}
}

// addresses returns the list of a file's chunks as stored.
func (f *v6) addresses(node uint64) (v6Inode, []byte, error) {
	n, err := f.find(node)
	if err != nil {
		return n, nil, err
	}
	if n.layout() != v6LayoutChunked {
		return n, nil, unsupportedf("a file with data layout %d", n.layout())
	}
	if n.union()&v6FormatIndexes == 0 {
		return n, nil, unsupportedf("a file with chunk format %#x", n.union())
	}
	list, err := f.metadata.at("chunk list", align8(n.tailAt()), f.chunkCount(n)*v6ChunkAddressSize)
	return n, list, err
}

// records implements [formatCheck].
func (f *v6Check) records(i Inode, yield func(at uint64)) {
	if i.Size == 0 {
		return
	}
	_, list, err := f.addresses(i.node)
	if err != nil {
		return
	}
	for entry := range slices.Chunk(list, v6ChunkAddressSize) {
		if a, err := decodeV6ChunkAddress(entry); err == nil {
			if record, ok := f.table.find(a); ok {
				yield(f.table.place(record))
			}
		}
	}
}

// finish checks the records for themselves and with each other.
func (t *v6TableCheck) finish(ctx context.Context, c *checker) {
	space := newChunkSpace(t.blobTable, t.metadata)
	for k := range until(ctx, uint32(t.count())) {
		chunk := t.decode(k)
		_, addressable := recordAddress(chunk)
		switch {
		case !addressable:
			c.record(t.place(k), t.field(k), "one that files can name", fmt.Sprintf("chunk %d of blob %d", chunk.Index, chunk.Blob))
			continue
		case chunk.UncompressedOffset%v6BlockSize != 0:
			c.record(t.place(k), t.field(k), "at a block of the decompressed blob", fmt.Sprintf("at %d", chunk.UncompressedOffset))
		}
		if k > 0 {
			t.checkOrder(c, k)
		}
		space.add(c, t.field(k), t.place(k))
	}
	for k := range until(ctx, max(0, len(t.places)-1)) {
		if a, b := t.places[k], t.places[k+1]; a.address == b.address {
			// Two that say the same are found by their order.
			t.used.add(uint64(b.record))
			if !sameChunk(t.chunkMap.at(a.record), t.chunkMap.at(b.record)) {
				c.record(t.place(a.record), t.field(a.record), "the only one of its chunk", fmt.Sprintf("contradicted by record %d", b.record))
			}
		}
	}
	for k := range until(ctx, uint32(t.count())) {
		if !t.used.has(uint64(k)) {
			c.record(t.place(k), t.field(k), "used by a file", "used by none")
		}
	}
	space.check(ctx, c)
}

// checkOrder compares a record with the one before: builders sort them by digest
// and blob, chunks of external blobs by their number as well.
func (t *v6TableCheck) checkOrder(c *checker, k uint32) {
	before, chunk := t.decode(k-1), t.decode(k)
	order := cmp.Or(bytes.Compare(t.digest(k-1), t.digest(k)), cmp.Compare(before.Blob, chunk.Blob))
	if order == 0 && chunk.Blob < len(t.blobTable) && t.blobTable[chunk.Blob].Features&BlobExternal != 0 {
		order = cmp.Compare(before.Index, chunk.Index)
	}
	if order >= 0 {
		c.record(t.place(k), t.field(k), "sorted by digest and blob, each once", fmt.Sprintf("not behind record %d", k-1))
	}
}
