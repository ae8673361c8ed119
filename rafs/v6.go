package rafs

// RAFS v6 (rafs/src/metadata/layout/v6.rs of the Nydus project): an EROFS
// image whose data lies on other devices, the blobs, with an extended
// superblock that locates the blob and the chunk table.
const (
	v6SuperOffset = 1024
	v6SuperSize   = 128 + 256 // EROFS superblock, extended superblock
	v6Magic       = 0xe0f5e1e2

	v6BlockBits = 12
	v6BlockSize = 1 << v6BlockBits

	v6CompatRafs       = 0x40000000
	v6IncompatChunked  = 0x4
	v6IncompatDevices  = 0x8
	v6IncompatFeatures = v6IncompatChunked | v6IncompatDevices
	v6TarfsBlockBits   = 9
)

func isV6(head []byte) bool {
	return len(head) >= v6SuperOffset+4 && le.Uint32(head[v6SuperOffset:]) == v6Magic
}

func checkV6Features(head []byte) error {
	if len(head) < v6SuperOffset+v6SuperSize {
		return corruptf("it ends in the superblock")
	}
	b := head[v6SuperOffset:]
	if le.Uint32(b[8:])&v6CompatRafs == 0 {
		return unsupportedf("an EROFS image without the RAFS v6 mark (Nydus 3 images look like this)")
	}
	if b[12] == v6TarfsBlockBits || Flags(le.Uint64(b[128:]))&FlagTarfs != 0 {
		return unsupportedf("tarfs mode")
	}
	if b[12] != v6BlockBits {
		return unsupportedf("blocks of 2^%d bytes", b[12])
	}
	if features := le.Uint32(b[80:]); features != v6IncompatFeatures {
		return unsupportedf("EROFS features %#x, where RAFS v6 has %#x", features, v6IncompatFeatures)
	}
	if shared := le.Uint32(b[44:]); shared != 0 {
		return unsupportedf("shared extended attributes")
	}
	return nil
}

// v6 is a bootstrap of RAFS v6. A node is an EROFS nid: the number of a
// 32-byte slot, counted from the inode area.
type v6 struct {
	metadata  metadata
	super     Superblock
	blobTable []Blob
	inodesAt  uint64
	rootNode  uint64
	chunkMap  v6ChunkMap
	// complete fills in what a chunk's address does not say, where there is no
	// chunk table; nil leaves it open.
	complete func(*Chunk) error
}

func openV6(m metadata) (format, error) {
	b, err := m.at("superblock", v6SuperOffset, v6SuperSize)
	if err != nil {
		return nil, err
	}
	x := b[128:]
	f := &v6{
		metadata: m,
		super: Superblock{
			Version:   V6,
			Flags:     Flags(le.Uint64(x)),
			ChunkSize: le.Uint32(x[20:]),
			Inodes:    le.Uint64(b[16:]),
		},
		inodesAt: uint64(le.Uint32(b[40:])) << v6BlockBits,
		rootNode: uint64(le.Uint16(b[14:])),
	}
	if f.inodesAt > uint64(len(m)) {
		return nil, corruptf("the inodes begin at %d, after the end of the bootstrap", f.inodesAt)
	}
	if err := checkChunkSize(f.super.ChunkSize); err != nil {
		return nil, err
	}
	if f.super.Compressor, err = f.super.Flags.compressor(); err != nil {
		return nil, err
	}
	if f.super.Digester, err = f.super.Flags.digester(); err != nil {
		return nil, err
	}
	table, err := m.at("blob table", le.Uint64(x[8:]), uint64(le.Uint32(x[16:])))
	if err != nil {
		return nil, err
	}
	if f.blobTable, err = v6Blobs(table, f.super.ChunkSize); err != nil {
		return nil, err
	}
	if size := le.Uint64(x[32:]); size > 0 {
		if f.chunkMap.table, err = m.at("chunk table", le.Uint64(x[24:]), size); err != nil {
			return nil, err
		}
		if size%chunkRecordSize != 0 {
			return nil, corruptf("the chunk table of %d bytes is not made of entries of %d", size, chunkRecordSize)
		}
	}
	return f, nil
}

func (f *v6) superblock() Superblock { return f.super }
func (f *v6) blobs() []Blob          { return f.blobTable }
func (f *v6) root() uint64           { return f.rootNode }
func (f *v6) nodes() uint64          { return (uint64(len(f.metadata))-f.inodesAt)/v6SlotSize + 1 }
