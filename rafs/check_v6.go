package rafs

import (
	"bytes"
	"context"
	"fmt"
	"math/bits"
)

const (
	v6DeviceSize  = 128
	v6DevicesAt   = v6SuperOffset + v6SuperSize // where the device table begins
	v6DevicesSlot = v6DevicesAt / v6DeviceSize
	// v6OldBlocks is what old builders wrote as the number of blocks.
	v6OldBlocks = 4096

	// What nydusd takes (BLOB_MAX_SIZE_COMPRESSED, _UNCOMPRESSED).
	v6MaxCompressed   = 1 << 40
	v6MaxUncompressed = 1 << 44
)

// flagsKnown are the superblock flags of all releases.
const flagsKnown = flagsCompressor | flagsDigester | FlagExplicitUIDGID | FlagHasXattr | FlagInlinedChunkDigest |
	FlagTarfs | FlagEncryptionNone | FlagEncryptionAES128XTS

// A v6Check is the [formatCheck] of v6.
type v6Check struct {
	*v6
	c       *checker
	numbers bitSet // the inode numbers in the records
	table   v6TableCheck
}

func (f *v6) check(c *checker) formatCheck {
	// A number stands for a name, and a name takes an entry.
	return &v6Check{v6: f, c: c, numbers: make(bitSet, len(f.metadata)/v6DirentSize/64+1), table: newV6TableCheck(f)}
}

// superRecord returns the two superblocks as stored.
func (f *v6) superRecord() (super, extended []byte) {
	b := f.metadata[v6SuperOffset:]
	return b[:128], b[128:v6SuperSize]
}

func (f *v6) deviceCount() uint64 {
	super, _ := f.superRecord()
	return uint64(le.Uint16(super[86:]))
}

func (f *v6) parts() []part {
	_, x := f.superRecord()
	parts := []part{
		{"superblock", v6SuperOffset, v6SuperSize},
		{"device table", v6DevicesAt, f.deviceCount() * v6DeviceSize},
		{"blob table", le.Uint64(x[8:]), uint64(le.Uint32(x[16:]))},
	}
	if table, err := f.prefetch(); err == nil && len(table) > 0 {
		parts = append(parts, part{"prefetch table", le.Uint64(x[40:]), uint64(len(table))})
	}
	if size := uint64(len(f.chunkMap.table)); size > 0 {
		parts = append(parts, part{"chunk table", le.Uint64(x[24:]), size})
	}
	inside := parts[:0]
	for _, p := range parts {
		if _, err := f.metadata.at(p.what, p.offset, p.size); err == nil {
			inside = append(inside, p)
		}
	}
	return inside
}

func (f *v6) inodeParts(node uint64) ([]part, error) {
	n, err := f.find(node)
	if err != nil {
		return nil, err
	}
	end, blocks := n.tailAt(), uint64(0)
	switch mode := n.mode() & modeType; {
	case mode == modeRegular && n.size() > 0:
		end = align8(end) + v6ChunkAddressSize*f.chunkCount(n)
	case mode == modeDirectory || mode == modeSymlink:
		switch n.layout() {
		case v6LayoutPlain:
			blocks = n.size()
		case v6LayoutInline:
			tail := n.size() - n.size()&^(v6BlockSize-1)
			if tail == 0 {
				tail = min(n.size(), v6BlockSize)
			}
			end += tail
			blocks = n.size() - tail
		}
	}
	parts := []part{{"inode", n.at, end - n.at}}
	if blocks > 0 {
		parts = append(parts, part{"data blocks", uint64(n.union()) * v6BlockSize, blocks})
	}
	for _, p := range parts {
		if _, err := f.metadata.at(p.what, p.offset, p.size); err != nil {
			return nil, err
		}
	}
	return parts, nil
}

// v6Types are the types of inodes as directory entries have them.
var v6Types = map[uint32]uint8{
	modeRegular: 1, modeDirectory: 2, modeCharacter: 3, modeBlock: 4, modeFIFO: 5, modeSocket: 6, modeSymlink: 7,
}

func (f *v6) checkEntry(e dirent, _, child Inode, problem func(field string, want, got any)) {
	if want := v6Types[child.Mode&modeType]; e.kind != want {
		problem("type in the directory", want, e.kind)
	}
}

// tables implements [formatCheck]. The checks are those of nydusd, and that what
// is stored twice is the same.
func (f *v6Check) tables() {
	super, x := f.superRecord()
	field := func(name string, ok bool, want, got any) {
		if !ok {
			f.c.problem("", name, want, got)
		}
	}
	field("size", len(f.metadata)%v6BlockSize == 0, fmt.Sprintf("a multiple of %d", v6BlockSize), len(f.metadata))
	field("superblock checksum", le.Uint32(super[4:]) == 0, 0, le.Uint32(super[4:]))
	field("superblock slots", super[13] == 0, 0, super[13])
	field("superblock compression", le.Uint16(super[84:]) == 0, 0, le.Uint16(super[84:]))
	field("device table", le.Uint16(super[88:]) == v6DevicesSlot, fmt.Sprintf("in slot %d", v6DevicesSlot), fmt.Sprintf("in slot %d", le.Uint16(super[88:])))
	flags := f.super.Flags
	field("superblock flags", flags&^flagsKnown == 0, "known ones", fmt.Sprintf("%#x", uint64(flags)))
	field("superblock flags", bits.OnesCount64(uint64(flags&flagsCompressor)) == 1, "one compressor", fmt.Sprintf("%#x", uint64(flags)))
	field("superblock flags", bits.OnesCount64(uint64(flags&flagsDigester)) == 1, "one digester", fmt.Sprintf("%#x", uint64(flags)))
	for _, table := range []struct {
		name         string
		offset, size uint64
	}{
		{"blob table", le.Uint64(x[8:]), uint64(len(f.blobTable))},
		{"chunk table", le.Uint64(x[24:]), uint64(len(f.chunkMap.table))},
	} {
		aligned := table.offset >= v6BlockSize && table.offset%v6BlockSize == 0
		field(table.name, aligned || table.size == 0 && table.name == "chunk table",
			fmt.Sprintf("at a multiple of %d", v6BlockSize), fmt.Sprintf("at %d", table.offset))
	}
	f.checkDevices(super)
	f.checkBlobs()
}

// checkDevices compares the device table, by which Linux finds blobs, with the
// blob table, by which nydusd does.
func (f *v6Check) checkDevices(super []byte) {
	count := f.deviceCount()
	if count != uint64(len(f.blobTable)) {
		f.c.problem("", "device table", fmt.Sprintf("%d devices, as many as blobs", len(f.blobTable)), count)
	}
	devices, err := f.metadata.at("device table", v6DevicesAt, count*v6DeviceSize)
	if err != nil {
		f.c.unreadable("", "device table", err)
		return
	}
	var blocks uint64
	for i := range min(int(count), len(f.blobTable)) {
		b, device := &f.blobTable[i], devices[i*v6DeviceSize:]
		field := fmt.Sprintf("device %d", i)
		if id := deviceID(device); id != b.ID {
			f.c.problem("", field, "blob "+b.ID, fmt.Sprintf("blob %q", id))
		}
		stored := uint64(le.Uint32(device[64:]))
		if want := b.UncompressedSize >> v6BlockBits; stored != want {
			f.c.problem("", field, fmt.Sprintf("%d blocks", want), stored)
		}
		blocks += stored
	}
	if stored := uint64(le.Uint32(super[36:])); stored != blocks && stored != v6OldBlocks {
		f.c.problem("", "superblock blocks", blocks, stored)
	}
}

func (f *v6Check) checkBlobs() {
	ids := make(map[string]int)
	for i := range f.blobTable {
		b := &f.blobTable[i]
		field := fmt.Sprintf("blob table entry %d", i)
		if other, ok := ids[b.ID]; ok {
			f.c.problem("", field, "a blob of its own", fmt.Sprintf("that of entry %d", other))
		}
		ids[b.ID] = i
		if b.Features&blobInternal != 0 {
			f.c.problem("", field, "features that are stored", fmt.Sprintf("features %#x", uint32(b.Features)))
		}
		if b.Features&BlobSeparate != 0 && b.Features&BlobInlinedMeta == 0 && b.Cipher == CipherNone && b.MetaDigest == [32]byte{} {
			f.c.problem("", field, "the digest of the blob that holds its blob.meta", "none")
		}
		if b.CompressedSize > v6MaxCompressed {
			f.c.problem("", field, fmt.Sprintf("up to %d bytes compressed", v6MaxCompressed), b.CompressedSize)
		}
		if b.UncompressedSize > v6MaxUncompressed {
			f.c.problem("", field, fmt.Sprintf("up to %d bytes uncompressed", v6MaxUncompressed), b.UncompressedSize)
		}
		// Chunks are aligned to blocks: each takes one at least.
		if least := uint64(b.ChunkCount) << v6BlockBits; b.Features&BlobExternal == 0 && b.UncompressedSize < least {
			f.c.problem("", field, fmt.Sprintf("%d bytes or more uncompressed for %d chunks", least, b.ChunkCount), b.UncompressedSize)
		}
	}
}

// inode implements [formatCheck].
func (f *v6Check) inode(path string, i Inode) {
	n, err := f.find(i.node)
	if err != nil {
		return // it has been found before
	}
	// nydus-image 2.2 gives the root none, or that of another image's root.
	if number := uint64(le.Uint32(n.record[20:])); path != "." && (number == 0 || !f.numbers.add(number)) {
		f.c.problem(path, "inode number", "one of its own", number)
	}
	if i.IsDir() {
		f.directorySize(path, n)
	}
}

// directorySize checks that a directory ends with the last name in it.
func (f *v6Check) directorySize(path string, n v6Inode) {
	if n.size() == 0 {
		return // its missing entries are reported
	}
	last, err := f.dataBlock(n, (n.size()-1)/v6BlockSize)
	if err != nil {
		return // so is this
	}
	if used := len(bytes.TrimRight(last, "\x00")); used < len(last) {
		f.c.problem(path, "size", n.size()-uint64(len(last)-used), n.size())
	}
}

// finish implements [formatCheck].
func (f *v6Check) finish(ctx context.Context) {
	if f.super.Inodes != f.c.names {
		f.c.problem("", "superblock inodes", fmt.Sprintf("%d, as many as names", f.c.names), f.super.Inodes)
	}
	f.table.finish(ctx, f.c)
	f.checkPrefetch()
}

func (f *v6Check) checkPrefetch() {
	table, err := f.prefetch()
	if err != nil {
		f.c.unreadable("", "prefetch table", err)
		return
	}
	if _, x := f.superRecord(); len(table) > 0 && (len(table)%4 != 0 || le.Uint64(x[40:]) < v6BlockSize || le.Uint64(x[40:])%v5Alignment != 0) {
		f.c.problem("", "prefetch table", fmt.Sprintf("numbers of 4 bytes behind the superblock, at a multiple of %d", v5Alignment),
			fmt.Sprintf("%d bytes at %d", len(table), le.Uint64(x[40:])))
	}
	f.c.checkPrefetch(table)
}
