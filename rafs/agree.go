package rafs

import (
	"bytes"
	"cmp"
	"context"
	"math/bits"
)

// Some things are stored twice in a bootstrap, or are said of one thing by two
// fields, and runtimes differ in which they go by: nydusd and Linux, or nydusd
// when it looks a name up and when it reads the file. Where the two say different
// things, no reading of the bootstrap is the one that a container sees. Tree.Walk
// refuses such bootstraps; Tree.Check reports them one by one.

func (f *v5) agree() error { return nil }

// agreeInode checks the number of an inode. nydusd finds the record of a name in
// its directory, and from then on, by the number in that record, a place in the
// inode table: attributes and data are those of the record which lies there. For
// the further names of a hard link that is the record of the first name; it must
// say what the name's own says.
func (f *v5) agreeInode(node uint64) error {
	n, err := f.find(node)
	if err != nil {
		return err
	}
	number := le.Uint64(n.record[40:])
	if number == node {
		return nil
	}
	if n.mode()&modeType == modeDirectory {
		return corruptf("directory inode %d has the number %d", node, number)
	}
	first, err := f.find(number)
	if err != nil {
		return err
	}
	if le.Uint64(first.record[40:]) != number {
		return corruptf("inode %d has the number of inode %d, which has another", node, number)
	}
	same, err := f.sameFile(n, first)
	if err != nil {
		return err
	}
	if !same {
		return corruptf("inode %d has the number of inode %d, which is another file: a container would read that", node, number)
	}
	return nil
}

// sameFile says whether a scan of a by its own record sees what a container reads
// by that of first: a regular file of the same size and chunks that can be executed
// or not as well, or no regular file. Builders copy mode and owner of a further
// name from the layer's archive, where they may be others.
func (f *v5) sameFile(a, first v5Inode) (bool, error) {
	const executable = 0o111
	switch {
	case first.mode()&modeType != modeRegular:
		return true, nil
	case a.mode()&modeType != modeRegular, a.size() != first.size(), a.has(v5InodeHasHole) != first.has(v5InodeHasHole),
		(a.mode()&executable == 0) != (first.mode()&executable == 0):
		return false, nil
	}
	chunks, err := f.chunkRecords(a)
	if err != nil {
		return false, err
	}
	others, err := f.chunkRecords(first)
	return bytes.Equal(chunks, others), err
}

// chunkRecords returns the chunk list of a regular file as stored.
func (f *v5) chunkRecords(n v5Inode) ([]byte, error) {
	at, err := f.chunksAt(n)
	if err != nil {
		return nil, err
	}
	return f.metadata.at("chunk list", at, n.childCount()*chunkRecordSize)
}

// agreeChunks compares the records of chunks with each other. nydusd notes by a
// chunk's number that it has been fetched, and keeps it in a file, at its place in
// the decompressed blob. Unless it validates digests, which is not its default, it
// then gives what lies at that place for every chunk with that number. So of two
// chunks with one number or one place, each could be shown for the other, also where
// both have one digest: of what nobody reads in a scan it is not compared.
func (f *v5) agreeChunks(ctx context.Context, reached bitSet, all bool) error {
	if f.agreed.Load() {
		return nil
	}
	records := f.recordsOf(reached)
	blob := func(at uint64) uint32 { return le.Uint32(f.metadata[at+32:]) }
	index := func(at uint64) uint32 { return le.Uint32(f.metadata[at+72:]) }
	place := func(at uint64) uint64 { return le.Uint64(f.metadata[at+56:]) }
	record := func(at uint64) []byte { return f.metadata[at:][:chunkRecordSize] }

	sortUntil(ctx, records, func(a, b uint64) int {
		return cmp.Or(cmp.Compare(blob(a), blob(b)), cmp.Compare(index(a), index(b)))
	})
	for k := range until(ctx, max(0, len(records)-1)) {
		a, b := records[k], records[k+1]
		// Without a number of chunks nydusd goes by digests.
		numbered := int(blob(a)) < len(f.blobTable) && f.blobTable[blob(a)].ChunkCount > 0
		if numbered && blob(a) == blob(b) && index(a) == index(b) && !sameChunk(record(a), record(b)) {
			return corruptf("two chunks have number %d of blob %d: a container could read either", index(a), blob(a))
		}
	}
	sortUntil(ctx, records, func(a, b uint64) int {
		return cmp.Or(cmp.Compare(blob(a), blob(b)), cmp.Compare(place(a), place(b)))
	})
	for k := range until(ctx, max(0, len(records)-1)) {
		a, b := decodeChunk(record(records[k])), decodeChunk(record(records[k+1]))
		// Of chunks that share a place all do, so that the one before is enough.
		if a.Blob != b.Blob || b.UncompressedOffset-a.UncompressedOffset >= uint64(a.UncompressedSize) {
			continue
		}
		if a.UncompressedOffset != b.UncompressedOffset || a.UncompressedSize != b.UncompressedSize || a.Digest != b.Digest || !storedAlike(&a, &b) {
			return corruptf("chunks %d and %d of blob %d share bytes of the decompressed blob, at %d: a container could read either",
				a.Index, b.Index, a.Blob, b.UncompressedOffset)
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if all {
		f.agreed.Store(true)
	}
	return nil
}

// storedAlike says whether two chunks are the same stored bytes, decoded in the same way.
func storedAlike(a, b *Chunk) bool {
	return a.CompressedOffset == b.CompressedOffset && a.CompressedSize == b.CompressedSize && a.Flags == b.Flags
}

// recordsOf returns the offsets of the chunk records of regular files. Lists that are
// not inside the bootstrap are for others to report.
func (f *v5) recordsOf(reached bitSet) (records []uint64) {
	for node := range f.nodes() {
		if !reached.has(node) {
			continue
		}
		n, err := f.find(node)
		if err != nil || n.mode()&modeType != modeRegular {
			continue
		}
		at, err := f.chunksAt(n)
		if err != nil {
			continue
		}
		list, err := f.chunkRecords(n)
		for k := 0; err == nil && k < len(list); k += chunkRecordSize {
			records = append(records, at+uint64(k))
		}
	}
	return records
}

// agreeChunks has nothing to do in v6: there is one table of chunks, and blob.meta
// says where they lie.
func (f *v6) agreeChunks(context.Context, bitSet, bool) error { return nil }

// agree compares the device table, by which Linux finds blobs, with the blob table,
// by which nydusd does.
func (f *v6) agree() error {
	super, _ := f.superRecord()
	if slot := le.Uint16(super[88:]); slot != v6DevicesSlot && len(f.blobTable) > 0 {
		return corruptf("the device table is in slot %d, not %d", slot, v6DevicesSlot)
	}
	count := f.deviceCount()
	if count != uint64(len(f.blobTable)) {
		return corruptf("the device table has %d blobs, the blob table %d", count, len(f.blobTable))
	}
	devices, err := f.metadata.at("device table", v6DevicesAt, count*v6DeviceSize)
	if err != nil {
		return err
	}
	for i := range f.blobTable {
		if id := deviceID(devices[i*v6DeviceSize:]); id != f.blobTable[i].ID {
			return corruptf("device %d is blob %q, entry %d of the blob table is blob %s", i, id, i, f.blobTable[i].ID)
		}
	}
	return nil
}

// deviceID returns the ID in an entry of the device table.
func deviceID(device []byte) string { return string(bytes.TrimRight(device[:64], "\x00")) }

// agreeInode checks the chunk size of a file: Linux goes by the inode's, nydusd by
// the superblock's. Builders give a file whose chunks lie one behind the other a
// chunk size as large as itself, so that Linux reads its first address alone.
func (f *v6) agreeInode(node uint64) error {
	n, err := f.find(node)
	if err != nil {
		return err
	}
	if n.mode()&modeType != modeRegular || n.layout() != v6LayoutChunked || n.size() == 0 {
		return nil
	}
	if k, ok := f.chunksAgree(n); !ok {
		return corruptf("inode %d has chunks of 2^%d bytes, by which chunk %d would lie elsewhere than by the 2^%d of the superblock",
			node, n.chunkBits(), k, f.chunkBits())
	}
	return nil
}

// chunkBits is the binary logarithm of the bytes in a chunk of the file.
func (n v6Inode) chunkBits() uint32 { return v6BlockBits + n.union()&v6FormatBits }

func (f *v6) chunkBits() uint32 { return uint32(bits.TrailingZeros32(f.super.ChunkSize)) }

// chunksAgree says whether the chunk size of a file leads to the same places as
// that of the superblock; if not, which is the first chunk that does not. A list
// that is not inside the bootstrap, or an address that is none, is for others to
// report.
func (f *v6) chunksAgree(n v6Inode) (chunk uint64, ok bool) {
	own, whole := n.chunkBits(), f.chunkBits()
	if own == whole {
		return 0, true
	}
	if own < whole {
		return 0, false
	}
	count := f.chunkCount(n)
	if count > uint64(len(f.metadata))/v6ChunkAddressSize {
		return 0, true
	}
	list, err := f.metadata.at("chunk list", align8(n.tailAt()), count*v6ChunkAddressSize)
	if err != nil {
		return 0, true
	}
	for k := range count {
		first := k >> (own - whole) // the entry that Linux reads
		address, err := decodeV6ChunkAddress(list[k*v6ChunkAddressSize:])
		if err != nil {
			return 0, true
		}
		start, err := decodeV6ChunkAddress(list[first*v6ChunkAddressSize:])
		if err != nil {
			return 0, true
		}
		blocks := (k<<whole - first<<own) >> v6BlockBits
		if address.blob() != start.blob() || address.block() != start.block()+blocks {
			return k, false
		}
	}
	return 0, true
}
