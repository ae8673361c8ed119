package mutate

import "github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"

const (
	v6Super    = 1024
	v6Extended = v6Super + 128
	v6Block    = 4096
	v6BlobSize = 256
)

// v6Record are the fields of an extended inode of v6.
var v6Record = []Field{{"inode format", 0, 2}, {"inode xattr count", 2, 2}, {"inode mode", 4, 2}, {"inode size", 8, 8},
	{"inode data place", 16, 4}, {"inode number", 20, 4}, {"inode uid", 24, 4}, {"inode gid", 28, 4}, {"inode mtime", 32, 8},
	{"inode mtime nanoseconds", 40, 4}, {"inode links", 44, 4}}

func (s *Sample) findV6(tree *rafs.Tree) error {
	b := s.bytes
	for _, f := range []Field{{"superblock compatible features", 8, 4}, {"superblock block bits", 12, 1}, {"superblock root", 14, 2},
		{"superblock inodes", 16, 8}, {"superblock blocks", 36, 4}, {"superblock inode area", 40, 4},
		{"superblock shared xattrs", 44, 4}, {"superblock features", 80, 4}, {"superblock devices", 86, 2},
		{"superblock device table", 88, 2}, {"superblock flags", 128, 8}, {"blob table offset", 136, 8}, {"blob table size", 144, 4},
		{"superblock chunk size", 148, 4}, {"chunk table offset", 152, 8}, {"chunk table size", 160, 8},
		{"prefetch table offset", 168, 8}, {"prefetch table size", 176, 4}} {
		s.add(f.Name, v6Super+f.At, f.Size)
	}
	blobs, blobsSize := int(le.Uint64(b[v6Extended+8:])), int(le.Uint32(b[v6Extended+16:]))
	chunks, chunksSize := int(le.Uint64(b[v6Extended+24:])), int(le.Uint64(b[v6Extended+32:]))
	s.tables = []table{{Field{At: v6Extended + 8, Size: 8}, blobsSize}, {Field{At: v6Extended + 24, Size: 8}, chunksSize}}
	for at := blobs; at < blobs+blobsSize; at += v6BlobSize {
		for _, f := range []Field{{"blob ID", 0, 8}, {"blob index", 64, 4}, {"blob chunk size", 68, 4}, {"blob chunks", 72, 4},
			{"blob compressor", 76, 4}, {"blob digester", 80, 4}, {"blob features", 84, 4}, {"blob compressed size", 88, 8},
			{"blob size", 96, 8}, {"blob toc size", 104, 4}, {"meta compressor", 108, 4}, {"meta offset", 112, 8},
			{"meta compressed size", 120, 8}, {"meta size", 128, 8}, {"blob key", 168, 8}, {"blob cipher", 216, 4}} {
			s.add(f.Name, at+f.At, f.Size)
		}
	}
	for at := chunks; at < chunks+chunksSize; at += chunkRecord {
		s.chunk(at)
	}
	devices := 128 * int(le.Uint16(b[v6Super+88:]))
	for k := range int(le.Uint16(b[v6Super+86:])) {
		s.add("device blocks", devices+128*k+64, 4)
		s.add("device tag", devices+128*k, 8)
	}
	seen := make(map[uint64]bool)
	return tree.Walk(func(_ string, i rafs.Inode) error {
		if !seen[i.Number] {
			seen[i.Number] = true
			s.v6Inode(int(le.Uint32(b[v6Super+40:]))*v6Block+32*int(i.Number), int(tree.Superblock().ChunkSize))
		}
		return nil
	})
}

func (s *Sample) v6Inode(at, chunkSize int) {
	b := s.bytes
	for _, f := range v6Record {
		s.add(f.Name, at+f.At, f.Size)
	}
	r := b[at:]
	next := at + 64
	if le.Uint16(r)&1 == 0 {
		next = at + 32
	}
	if count := int(le.Uint16(r[2:])); count > 0 {
		end := next + 12 + 4*(count-1)
		s.add("xattr shared count", next+4, 1)
		for e := next + 12; e+4 <= end; {
			s.add("xattr name size", e, 1)
			s.add("xattr name index", e+1, 1)
			s.add("xattr value size", e+2, 2)
			size := int(b[e]) + int(le.Uint16(b[e+2:]))
			for k := range size {
				s.add("xattr byte", e+4+k, 1)
			}
			e += (4 + size + 3) &^ 3
		}
		next = end
	}
	size := int(le.Uint64(r[8:]))
	inline := le.Uint16(r)>>1&7 == 2
	switch le.Uint16(r[4:]) & typeMask {
	case typeRegular:
		for k := range (size + chunkSize - 1) / chunkSize {
			address := align8(next) + 8*k
			s.add("chunk address index", address, 2)
			s.add("chunk address blob", address+2, 2)
			s.add("chunk address block", address+4, 4)
		}
	case typeDir, typeSymlink:
		dir := le.Uint16(r[4:])&typeMask == typeDir
		for block := 0; block*v6Block < size; block++ {
			data := (int(le.Uint32(r[16:])) + block) * v6Block
			length := min(size-block*v6Block, v6Block)
			if inline && (block+1)*v6Block >= size {
				data = next
			}
			if dir {
				s.dirents(data, length)
				continue
			}
			for k := range length {
				s.add("target byte", data+k, 1)
			}
		}
	}
}

func (s *Sample) dirents(at, size int) {
	names := int(le.Uint16(s.bytes[at+8:]))
	for e := 0; e+12 <= names; e += 12 {
		s.add("entry inode", at+e, 8)
		s.add("entry name offset", at+e+8, 2)
		s.add("entry type", at+e+10, 1)
	}
	for k := names; k < size; k++ {
		s.add("name byte", at+k, 1)
	}
}
