package rafs

import "sync/atomic"

// RAFS v5 (rafs/src/metadata/layout/v5.rs of the Nydus project): an 8 KiB
// superblock, a table of inode places, and inodes with name, target, extended
// attributes and chunks behind each.
const (
	v5Magic       = 0x52414653 // "SFAR" on disk
	v5SuperSize   = 8192
	v5SuperFields = 80 // the rest of the superblock is reserved

	v4Version = 0x400
	v5Version = 0x500
)

func isV5(head []byte) bool { return len(head) >= 8 && le.Uint32(head) == v5Magic }

func checkV5Version(head []byte) error {
	switch version := le.Uint32(head[4:]); version {
	case v5Version:
		return nil
	case v4Version:
		return unsupportedf("RAFS v4")
	default:
		return corruptf("superblock of RAFS v5 has version %#x", version)
	}
}

// v5 is a bootstrap of RAFS v5. A node is an index into the inode table,
// counted from 1: one for each name of the tree.
type v5 struct {
	metadata   metadata
	super      Superblock
	blobTable  []Blob
	inodeTable []byte // uint32 for each node: the inode's offset, divided by 8

	agreed atomic.Bool // agreeChunks found nothing in the whole tree
}

func openV5(m metadata) (format, error) {
	b, err := m.at("superblock", 0, v5SuperSize)
	if err != nil {
		return nil, err
	}
	if size := le.Uint32(b[8:]); size != v5SuperSize {
		return nil, corruptf("superblock of RAFS v5 says it has %d bytes", size)
	}
	f := &v5{metadata: m, super: Superblock{
		Version:   V5,
		ChunkSize: le.Uint32(b[12:]),
		Flags:     Flags(le.Uint64(b[16:])),
		Inodes:    le.Uint64(b[24:]),
	}}
	if err := checkChunkSize(f.super.ChunkSize); err != nil {
		return nil, err
	}
	if f.super.Compressor, err = f.super.Flags.compressor(); err != nil {
		return nil, err
	}
	if f.super.Digester, err = f.super.Flags.digester(); err != nil {
		return nil, err
	}
	entries := uint64(le.Uint32(b[56:]))
	if f.inodeTable, err = m.at("inode table", le.Uint64(b[32:]), 4*entries); err != nil {
		return nil, err
	}
	blobs, err := m.at("blob table", le.Uint64(b[48:]), uint64(le.Uint32(b[64:])))
	if err != nil {
		return nil, err
	}
	// Old images have no extended table; its offset is then anything.
	var extended []byte
	if n := uint64(le.Uint32(b[68:])); n > 0 {
		if extended, err = m.at("extended blob table", le.Uint64(b[72:]), n*v5ExtendedBlobSize); err != nil {
			return nil, err
		}
	}
	if f.blobTable, err = v5Blobs(blobs, extended, f.super); err != nil {
		return nil, err
	}
	return f, nil
}

func (f *v5) superblock() Superblock { return f.super }
func (f *v5) blobs() []Blob          { return f.blobTable }
func (f *v5) root() uint64           { return 1 }
func (f *v5) nodes() uint64          { return uint64(len(f.inodeTable))/4 + 1 }
