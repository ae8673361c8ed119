package rafs

import (
	"bytes"
	"math"
)

const (
	v5InodeSize = 128
	// v5EntrySize is the least that a name takes: an inode and its padded name.
	v5EntrySize = v5InodeSize + 8

	v5InodeHasXattr = 0x4
	v5InodeHasHole  = 0x8
)

// A v5Inode is an inode record and where the parts that follow it begin. Only
// the record has been checked to lie in the bootstrap.
type v5Inode struct {
	record   []byte
	nameAt   uint64
	targetAt uint64
	// xattrAt is where the extended attributes begin if there are any, else
	// the chunks.
	xattrAt uint64
}

func (n v5Inode) mode() uint32         { return le.Uint32(n.record[60:]) }
func (n v5Inode) size() uint64         { return le.Uint64(n.record[64:]) }
func (n v5Inode) has(flag uint64) bool { return le.Uint64(n.record[80:])&flag != 0 }
func (n v5Inode) childIndex() uint64   { return uint64(le.Uint32(n.record[92:])) }
func (n v5Inode) childCount() uint64   { return uint64(le.Uint32(n.record[96:])) }
func (n v5Inode) nameSize() uint64     { return uint64(le.Uint16(n.record[100:])) }
func (n v5Inode) targetSize() uint64   { return uint64(le.Uint16(n.record[102:])) }

func (f *v5) find(node uint64) (v5Inode, error) {
	if node == 0 || node >= f.nodes() {
		return v5Inode{}, corruptf("inode %d is outside the inode table of %d entries", node, f.nodes()-1)
	}
	at := uint64(le.Uint32(f.inodeTable[4*(node-1):])) << 3
	record, err := f.metadata.at("inode", at, v5InodeSize)
	if err != nil {
		return v5Inode{}, err
	}
	n := v5Inode{record: record, nameAt: at + v5InodeSize}
	n.targetAt = n.nameAt + align8(n.nameSize())
	n.xattrAt = n.targetAt + align8(n.targetSize())
	return n, nil
}

func (f *v5) inode(node uint64) (Inode, error) {
	n, err := f.find(node)
	if err != nil {
		return Inode{}, err
	}
	b := n.record
	i := Inode{
		Number:    le.Uint64(b[40:]),
		Mode:      n.mode(),
		UID:       le.Uint32(b[48:]),
		GID:       le.Uint32(b[52:]),
		Links:     le.Uint32(b[88:]),
		Size:      int64(n.size()),
		MTime:     int64(le.Uint64(b[112:])),
		MTimeNsec: le.Uint32(b[108:]),
	}
	if err := checkMode(i.Mode); err != nil {
		return Inode{}, err
	}
	if n.size() > math.MaxInt64 {
		return Inode{}, corruptf("inode size of %d bytes", n.size())
	}
	if isDevice(i.Mode) {
		i.Rdev = le.Uint32(b[104:])
	}
	return i, nil
}

// footprint counts an entry's least size with the directory that lists it,
// so that directories cannot share their children for nothing.
func (f *v5) footprint(node uint64) (uint64, error) {
	n, err := f.find(node)
	if err != nil {
		return 0, err
	}
	end, err := f.chunksAt(n)
	if err != nil {
		return 0, err
	}
	size := end - n.nameAt
	switch n.mode() & modeType {
	case modeDirectory:
		size += n.childCount() * v5EntrySize
	case modeRegular:
		size += n.childCount() * chunkRecordSize
	}
	return size - min(size, v5EntrySize-v5InodeSize), nil
}

func (f *v5) readlink(node uint64) ([]byte, error) {
	n, err := f.find(node)
	if err != nil {
		return nil, err
	}
	target, err := f.metadata.at("target", n.targetAt, n.targetSize())
	if err != nil {
		return nil, err
	}
	// Old builders stored the padded size.
	return bytes.TrimRight(target, "\x00"), nil
}

// A v5Directory is a range of the inode table.
type v5Directory struct {
	format *v5
	first  uint64
	count  int
}

func (f *v5) directory(node uint64) (directory, error) {
	n, err := f.find(node)
	if err != nil {
		return nil, err
	}
	first, count := n.childIndex(), n.childCount()
	if count == 0 {
		return v5Directory{}, nil // childIndex is then anything
	}
	if first+count > f.nodes() {
		return nil, corruptf("children %d to %d are outside the inode table of %d entries",
			first, first+count-1, f.nodes()-1)
	}
	// Builders number a tree breadth first. What holds to that has no cycle.
	if first <= node {
		return nil, corruptf("child %d comes before its directory %d in the inode table", first, node)
	}
	return v5Directory{format: f, first: first, count: int(count)}, nil
}

func (f *v5) child(node uint64, name string) (dirent, bool, error) {
	d, err := f.directory(node)
	if err != nil {
		return dirent{}, false, err
	}
	return search(d, name)
}

func (d v5Directory) len() int { return d.count }

func (d v5Directory) entry(k int) (dirent, error) {
	node := d.first + uint64(k)
	n, err := d.format.find(node)
	if err != nil {
		return dirent{}, err
	}
	name, err := d.format.metadata.at("name", n.nameAt, n.nameSize())
	if err != nil {
		return dirent{}, err
	}
	// Old builders stored the padded size.
	return dirent{name: bytes.TrimRight(name, "\x00"), node: node}, nil
}
