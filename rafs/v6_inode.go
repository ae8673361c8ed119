package rafs

import "math"

const (
	v6SlotSize          = 32 // unit of nids, size of a compact inode
	v6ExtendedInodeSize = 64

	// The parts of an inode's format field.
	v6FormatExtended = 0x1
	v6FormatLayout   = 0xe
	v6LayoutShift    = 1

	// The layouts of an inode's data.
	v6LayoutPlain   = 0 // in blocks of the bootstrap
	v6LayoutInline  = 2 // the last block right behind the inode
	v6LayoutChunked = 4 // in blobs

	v6ChunkAddressSize = 8
)

// A v6Inode is an inode record. Only it has been checked to lie in the
// bootstrap.
type v6Inode struct {
	record []byte // 32 bytes if compact, 64 if extended
	at     uint64
}

func (n v6Inode) extended() bool { return len(n.record) == v6ExtendedInodeSize }
func (n v6Inode) layout() uint16 { return le.Uint16(n.record) & v6FormatLayout >> v6LayoutShift }
func (n v6Inode) mode() uint32   { return uint32(le.Uint16(n.record[4:])) }

// union returns the field i_u: first data block, device number or chunk format.
func (n v6Inode) union() uint32 { return le.Uint32(n.record[16:]) }

func (n v6Inode) size() uint64 {
	if n.extended() {
		return le.Uint64(n.record[8:])
	}
	return uint64(le.Uint32(n.record[8:]))
}

// xattrAt returns the offset of the extended attributes.
func (n v6Inode) xattrAt() uint64 { return n.at + uint64(len(n.record)) }

// xattrSize returns the size of the extended attributes with their header: 0,
// or 12 bytes and any number of words.
func (n v6Inode) xattrSize() uint64 {
	count := uint64(le.Uint16(n.record[2:]))
	if count == 0 {
		return 0
	}
	return v6XattrHeaderSize + (count-1)*4
}

// tailAt returns the offset of what follows the inode and its extended
// attributes.
func (n v6Inode) tailAt() uint64 { return n.xattrAt() + n.xattrSize() }

func (f *v6) find(node uint64) (v6Inode, error) {
	if node >= f.nodes() {
		return v6Inode{}, corruptf("inode %d lies outside the bootstrap", node)
	}
	at := f.inodesAt + node*v6SlotSize
	record, err := f.metadata.at("inode", at, v6SlotSize)
	if err != nil {
		return v6Inode{}, err
	}
	bits := le.Uint16(record)
	if bits&^(v6FormatExtended|v6FormatLayout) != 0 {
		return v6Inode{}, unsupportedf("inode format %#x", bits)
	}
	if bits&v6FormatExtended != 0 {
		if record, err = f.metadata.at("inode", at, v6ExtendedInodeSize); err != nil {
			return v6Inode{}, err
		}
	}
	return v6Inode{record: record, at: at}, nil
}

func (f *v6) inode(node uint64) (Inode, error) {
	n, err := f.find(node)
	if err != nil {
		return Inode{}, err
	}
	b := n.record
	i := Inode{Number: node, Mode: n.mode(), Size: int64(n.size())}
	if n.extended() {
		i.UID = le.Uint32(b[24:])
		i.GID = le.Uint32(b[28:])
		i.MTime = int64(le.Uint64(b[32:]))
		i.MTimeNsec = le.Uint32(b[40:])
		i.Links = le.Uint32(b[44:])
	} else {
		// A compact inode has no time; nydusd reports 0.
		i.Links = uint32(le.Uint16(b[6:]))
		i.UID = uint32(le.Uint16(b[24:]))
		i.GID = uint32(le.Uint16(b[26:]))
	}
	if err := checkMode(i.Mode); err != nil {
		return Inode{}, err
	}
	if n.size() > math.MaxInt64 {
		return Inode{}, corruptf("inode size of %d bytes", n.size())
	}
	if isDevice(i.Mode) {
		i.Rdev = n.union()
	}
	return i, nil
}

func (f *v6) footprint(node uint64) (uint64, error) {
	n, err := f.find(node)
	if err != nil {
		return 0, err
	}
	size := n.tailAt() - n.at
	switch n.mode() & modeType {
	case modeDirectory, modeSymlink:
		size += n.size()
	case modeRegular:
		size += v6ChunkAddressSize * f.chunkCount(n)
	}
	return size, nil
}

// chunkCount returns the number of chunks that a file's size asks for. nydusd
// strides by the superblock's chunk size, whatever the inode says.
func (f *v6) chunkCount(n v6Inode) uint64 {
	chunk := uint64(f.super.ChunkSize)
	return n.size()/chunk + min(1, n.size()%chunk)
}

// dataBlock returns block k of the data of a directory or symbolic link. All
// blocks but the last are full.
func (f *v6) dataBlock(n v6Inode, k uint64) ([]byte, error) {
	start := k * v6BlockSize
	size := min(n.size()-start, v6BlockSize)
	last := start+size == n.size()
	switch layout := n.layout(); {
	case layout == v6LayoutInline && last:
		return f.metadata.at("inline data", n.tailAt(), size)
	case layout == v6LayoutInline || layout == v6LayoutPlain:
		return f.metadata.at("data block", (uint64(n.union())+k)*v6BlockSize, size)
	default:
		return nil, unsupportedf("data layout %d", layout)
	}
}

func (f *v6) readlink(node uint64) ([]byte, error) {
	n, err := f.find(node)
	if err != nil {
		return nil, err
	}
	if n.size() > maxTargetLength {
		return nil, corruptf("its %d bytes are more than %d", n.size(), maxTargetLength)
	}
	return f.dataBlock(n, 0)
}
