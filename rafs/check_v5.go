package rafs

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/bits"
)

const (
	v5InodeIsSymlink = 0x1
	v5InodeIsLink    = 0x2
	v5InodeFlags     = v5InodeIsSymlink | v5InodeIsLink | v5InodeHasXattr | v5InodeHasHole

	v5Alignment = 8
)

// A v5Check is the [formatCheck] of v5.
type v5Check struct {
	*v5
	c     *checker
	space *chunkSpace
	buf   []byte // for digests
}

func (f *v5) check(c *checker) formatCheck {
	space := newChunkSpace(f.blobTable, f.metadata)
	space.ascending = true
	return &v5Check{v5: f, c: c, space: space}
}

func (f *v5) parts() []part {
	b := f.metadata
	parts := []part{
		{"superblock", 0, v5SuperSize},
		f.slots(f.root(), 1),
		{"blob table", le.Uint64(b[48:]), uint64(le.Uint32(b[64:]))},
	}
	if entries := uint64(le.Uint32(b[68:])); entries > 0 {
		parts = append(parts, part{"extended blob table", le.Uint64(b[72:]), entries * v5ExtendedBlobSize})
	}
	if table, err := f.prefetch(); err == nil && len(table) > 0 {
		parts = append(parts, part{"prefetch table", le.Uint64(b[40:]), uint64(len(table))})
	}
	return parts
}

// slots returns the part of the inode table that belongs to some inodes. They are
// claimed with the directory that lists them, so that no two list the same.
func (f *v5) slots(first, count uint64) part {
	return part{"inode table", le.Uint64(f.metadata[32:]) + 4*(first-1), 4 * count}
}

func (f *v5) inodeParts(node uint64) ([]part, error) {
	n, err := f.find(node)
	if err != nil {
		return nil, err
	}
	end, err := f.chunksAt(n)
	if err != nil {
		return nil, err
	}
	var parts []part
	switch n.mode() & modeType {
	case modeRegular:
		end += n.childCount() * chunkRecordSize
	case modeDirectory:
		if first, count := n.childIndex(), n.childCount(); count > 0 {
			if first == 0 || first+count > f.nodes() {
				return nil, corruptf("entries %d to %d are outside the inode table of %d", first, first+count-1, f.nodes()-1)
			}
			parts = append(parts, f.slots(first, count))
		}
	}
	at := n.nameAt - v5InodeSize
	if _, err := f.metadata.at("inode", at, end-at); err != nil {
		return nil, err
	}
	return append(parts, part{"inode", at, end - at}), nil
}

func (f *v5) checkEntry(_ dirent, dir, child Inode, problem func(field string, want, got any)) {
	n, err := f.find(child.node)
	if err != nil {
		return // it was read just now
	}
	if parent := le.Uint64(n.record[32:]); parent != dir.Number {
		problem("parent", fmt.Sprintf("inode %d", dir.Number), fmt.Sprintf("inode %d", parent))
	}
}

// tables implements [formatCheck].
func (f *v5Check) tables() {
	field := func(name string, ok bool, want, got any) {
		if !ok {
			f.c.problem("", name, want, got)
		}
	}
	field("size", len(f.metadata)%v5Alignment == 0, fmt.Sprintf("a multiple of %d", v5Alignment), len(f.metadata))
	flags := f.super.Flags
	// Tarfs is of v6 alone: nydusd 2.2.0 ends at it, later ones ignore it.
	field("superblock flags", flags&^flagsKnown == 0 && flags&FlagTarfs == 0, "known ones", fmt.Sprintf("%#x", uint64(flags)))
	field("superblock flags", bits.OnesCount64(uint64(flags&flagsCompressor)) == 1, "one compressor", fmt.Sprintf("%#x", uint64(flags)))
	field("superblock flags", bits.OnesCount64(uint64(flags&flagsDigester)) == 1, "one digester", fmt.Sprintf("%#x", uint64(flags)))
	for _, p := range f.parts()[1:] {
		field(p.what, p.size == 0 || p.offset >= v5SuperSize && p.offset%4 == 0, "behind the superblock, aligned", fmt.Sprintf("at %d", p.offset))
	}
	// nydusd asks this of tables that are empty, too.
	for _, table := range []struct {
		name string
		at   int
	}{{"inode table", 32}, {"prefetch table", 40}, {"blob table", 48}, {"extended blob table", 72}} {
		offset := le.Uint64(f.metadata[table.at:])
		field(table.name, offset%v5Alignment == 0, fmt.Sprintf("at a multiple of %d", v5Alignment), fmt.Sprintf("at %d", offset))
	}
	f.checkBlobs()
	if n, err := f.find(1); err == nil {
		parent := le.Uint64(n.record[32:])
		field("parent of the root", parent == 0, 0, parent)
	}
}

// v5Foreign are the features of blobs that need a blob.meta, which v5 has not:
// nydusd looks for it all the same.
const v5Foreign = BlobZran | BlobSeparate | BlobTarfs | BlobBatch | BlobEncrypted

// checkBlobs checks the blob table. nydusd makes a file of the uncompressed size
// and a table of as many chunks as are said to be there, and ends if it cannot.
func (f *v5Check) checkBlobs() {
	ids := make(map[string]int)
	for i := range f.blobTable {
		b := &f.blobTable[i]
		entry := fmt.Sprintf("blob table entry %d", i)
		if other, ok := ids[b.ID]; ok {
			f.c.problem("", entry, "a blob of its own", fmt.Sprintf("that of entry %d", other))
		}
		ids[b.ID] = i
		if foreign := b.Features & v5Foreign; foreign != 0 {
			f.c.problem("", entry, "features of RAFS v5", fmt.Sprintf("features %#x", uint32(foreign)))
		}
		if b.ChunkCount == 0 {
			continue // old images do not say
		}
		most := min(maxBlobChunks, b.UncompressedSize)
		if uint64(b.ChunkCount) > most {
			f.c.problem("", entry, fmt.Sprintf("up to %d chunks, of %d bytes", most, b.UncompressedSize), b.ChunkCount)
		}
		// Chunks of stargz layers have a size of their own.
		if size := uint64(b.ChunkCount) * uint64(b.ChunkSize); b.Compressor != CompressorGzip && b.UncompressedSize > size {
			f.c.problem("", entry, fmt.Sprintf("up to %d bytes in %d chunks", size, b.ChunkCount), b.UncompressedSize)
		}
	}
}

// inode implements [formatCheck].
func (f *v5Check) inode(path string, i Inode) {
	n, err := f.find(i.node)
	if err != nil {
		return // it has been found before
	}
	f.checkNumber(path, i)
	if at := n.nameAt - v5InodeSize; at <= v5SuperSize { // nydusd takes none that begins where the superblock ends
		f.c.problem(path, "inode", fmt.Sprintf("behind %d", v5SuperSize), fmt.Sprintf("at %d", at))
	}
	flags := le.Uint64(n.record[80:])
	if flags&^v5InodeFlags != 0 {
		f.c.problem(path, "inode flags", "known ones", fmt.Sprintf("%#x", flags))
	}
	if i.IsSymlink() != n.has(v5InodeIsSymlink) {
		f.c.problem(path, "inode flags", fmt.Sprintf("those of a file of mode %#o", i.Mode), fmt.Sprintf("%#x", flags))
	}
	if size := n.nameSize(); size == 0 || size > maxNameLength+1 {
		f.c.problem(path, "name", fmt.Sprintf("1 to %d bytes", maxNameLength), size)
	}
	// Readers take the padding off, as it was once counted; nydusd does no more.
	if name, err := f.metadata.at("name", n.nameAt, n.nameSize()); err == nil {
		if used := len(bytes.TrimRight(name, "\x00")); used < len(name) {
			f.c.problem(path, "name", fmt.Sprintf("%d bytes, without padding", used), len(name))
		}
	}
	f.checkDigest(path, i, n)
}

// checkNumber checks the number of an inode: its place in the inode table or, of
// a further name of a hard link, that of the first.
func (f *v5Check) checkNumber(path string, i Inode) {
	if i.Number == i.node {
		return
	}
	if i.IsDir() || i.Links < 2 || i.Number == 0 || i.Number > i.node {
		f.c.problem(path, "inode number", i.node, i.Number)
		return
	}
	first, err := f.c.tree.inode(i.Number)
	switch {
	case err != nil:
		f.c.unreadable(path, "first name of the hard link", err)
	case first.Number != i.Number:
		f.c.problem(path, "inode number", "that of a hard link's first name", i.Number)
	case first.Mode != i.Mode || first.UID != i.UID || first.GID != i.GID || first.Size != i.Size ||
		first.MTime != i.MTime || first.MTimeNsec != i.MTimeNsec || first.Rdev != i.Rdev || first.Links != i.Links:
		f.c.problem(path, "hard link", "the same as its first name", "another in mode, owner, size, time, device number or links")
	default:
		if err := f.agreeInode(i.node); err != nil {
			f.c.problem(path, "hard link", "the same as its first name", err.Error())
		}
		f.checkLinked(path, i, first)
	}
}

// checkLinked compares what the first name of a hard link has beside what every inode
// does: that is what a container reads.
func (f *v5Check) checkLinked(path string, i, first Inode) {
	if i.IsSymlink() {
		target, err := i.Readlink()
		other, err2 := first.Readlink()
		if err == nil && err2 == nil && target != other { // others find what cannot be read
			f.c.problem(path, "hard link", fmt.Sprintf("the target of its first name, %q", other), fmt.Sprintf("%q", target))
		}
	}
	xattrs, err := i.Xattrs()
	others, err2 := first.Xattrs()
	if err == nil && err2 == nil && !maps.EqualFunc(xattrs, others, bytes.Equal) {
		f.c.problem(path, "hard link", "the extended attributes of its first name", "others")
	}
}

// chunks implements [formatCheck].
func (f *v5Check) chunks(path string, i Inode) {
	n, err := f.find(i.node)
	if err != nil {
		return // it has been found before
	}
	var end uint64 // of the chunks before, in the file
	count := 0
	f.records(i, func(at uint64) {
		c := decodeChunk(f.metadata[at:][:chunkRecordSize])
		field := fmt.Sprintf("chunk %d", count)
		if err := f.checkPlace(n, c, end); err != nil {
			f.c.unreadable(path, field, err)
		}
		if next := uint64(c.FileOffset) + uint64(c.UncompressedSize); next > end && next <= n.size() {
			end = next
		}
		f.space.add(f.c, field, at)
		count++
	})
	if end != n.size() && !n.has(v5InodeHasHole) {
		f.c.problem(path, "chunks", fmt.Sprintf("%d bytes, as the file has", n.size()), end)
	}
}

// records implements [formatCheck].
func (f *v5Check) records(i Inode, yield func(at uint64)) {
	n, err := f.find(i.node)
	if err != nil {
		return
	}
	start, err := f.chunksAt(n)
	if err != nil {
		return
	}
	if _, err := f.metadata.at("chunk list", start, n.childCount()*chunkRecordSize); err != nil {
		return
	}
	for k := range n.childCount() {
		yield(start + k*chunkRecordSize)
	}
}

// finish implements [formatCheck].
func (f *v5Check) finish(ctx context.Context) {
	if entries := f.nodes() - 1; entries != f.c.names {
		f.c.problem("", "inode table", fmt.Sprintf("%d entries, as many as names", f.c.names), entries)
	}
	// nydus-image up to 2.2 leaves the root out of the count.
	if n := f.super.Inodes; n != f.c.inodes && n+1 != f.c.inodes {
		f.c.problem("", "superblock inodes", f.c.inodes, n)
	}
	f.space.check(ctx, f.c)
	table, err := f.prefetch()
	if err != nil {
		f.c.unreadable("", "prefetch table", err)
		return
	}
	f.c.checkPrefetch(table)
}
