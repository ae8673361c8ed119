package mutate

import (
	"crypto/sha256"

	"lukechampine.com/blake3"
)

// v5Record are the fields of an inode of v5.
var v5Record = []Field{{"inode parent", 32, 8}, {"inode number", 40, 8}, {"inode uid", 48, 4}, {"inode gid", 52, 4},
	{"inode mode", 60, 4}, {"inode size", 64, 8}, {"inode blocks", 72, 8}, {"inode flags", 80, 8}, {"inode links", 88, 4},
	{"inode child index", 92, 4}, {"inode child count", 96, 4}, {"inode name size", 100, 2}, {"inode target size", 102, 2},
	{"inode rdev", 104, 4}, {"inode mtime nanoseconds", 108, 4}, {"inode mtime", 112, 8}}

const (
	v5RecordSize = 128
	v5HasXattr   = 0x4
	typeMask     = 0xf000
	typeDir      = 0x4000
	typeRegular  = 0x8000
	typeSymlink  = 0xa000
	chunkRecord  = 80
)

func align8(n int) int { return (n + 7) &^ 7 }

func (s *Sample) findV5() {
	b := s.bytes
	s.uncounted = v5Numbers(b) - le.Uint64(b[24:])
	for _, f := range []Field{{"superblock chunk size", 12, 4}, {"superblock flags", 16, 8}, {"superblock inodes", 24, 8},
		{"inode table offset", 32, 8}, {"prefetch table offset", 40, 8}, {"blob table offset", 48, 8}, {"inode table entries", 56, 4},
		{"prefetch table entries", 60, 4}, {"blob table size", 64, 4}, {"extended blob table entries", 68, 4},
		{"extended blob table offset", 72, 8}} {
		s.add(f.Name, f.At, f.Size)
	}
	entries, at := int(le.Uint32(b[56:])), int(le.Uint64(b[32:]))
	s.tables = []table{{Field{At: 32, Size: 8}, 4 * entries}, {Field{At: 48, Size: 8}, int(le.Uint32(b[64:]))},
		{Field{At: 72, Size: 8}, 64 * int(le.Uint32(b[68:]))}}
	for k := range entries {
		s.add("inode table entry", at+4*k, 4)
		record := int(le.Uint32(b[at+4*k:])) << 3
		s.v5Inode(record)
	}
	blobs, size := int(le.Uint64(b[48:])), int(le.Uint32(b[64:]))
	for k := 0; k+8 <= size; k += 8 {
		s.add("blob table word", blobs+k, 8)
	}
	extended := int(le.Uint64(b[72:]))
	for k := range int(le.Uint32(b[68:])) {
		for _, f := range []Field{{"blob chunks", 0, 4}, {"blob features", 4, 4}, {"blob size", 8, 8}, {"blob compressed size", 16, 8}} {
			s.add(f.Name, extended+64*k+f.At, f.Size)
		}
	}
}

func (s *Sample) v5Inode(at int) {
	for _, f := range v5Record {
		s.add(f.Name, at+f.At, f.Size)
	}
	r := s.bytes[at:]
	for k := range int(le.Uint16(r[100:])) {
		s.add("name byte", at+v5RecordSize+k, 1)
	}
	next := at + v5RecordSize + align8(int(le.Uint16(r[100:])))
	for k := range int(le.Uint16(r[102:])) {
		s.add("target byte", next+k, 1)
	}
	next += align8(int(le.Uint16(r[102:])))
	if le.Uint64(r[80:])&v5HasXattr != 0 {
		size := int(le.Uint64(s.bytes[next:]))
		s.add("xattr size", next, 8)
		for at := 0; at+4 <= size; {
			s.add("xattr pair size", next+8+at, 4)
			pair := int(le.Uint32(s.bytes[next+8+at:]))
			for k := range pair {
				s.add("xattr byte", next+8+at+4+k, 1)
			}
			at += 4 + pair
		}
		next += 8 + align8(size)
	}
	if le.Uint32(r[60:])&typeMask == typeRegular {
		for k := range int(le.Uint32(r[96:])) {
			s.chunk(next + chunkRecord*k)
		}
	}
}

// v5Records returns where the inode table has the inode records, up to the first
// that is not in the bootstrap.
func v5Records(b []byte) (records []int) {
	at, entries := le.Uint64(b[32:]), uint64(le.Uint32(b[56:]))
	for k := uint64(0); k < entries && at < uint64(len(b)) && at+4*k+4 <= uint64(len(b)); k++ {
		record := int(le.Uint32(b[at+4*k:])) << 3
		if record > len(b)-v5RecordSize {
			break
		}
		records = append(records, record)
	}
	return records
}

// mendCounts stores how many inodes there are: in v5 distinct numbers, of which
// builders leave out some.
func (s *Sample) mendCounts(b []byte) {
	if s.v6 {
		copy(b[v6Super+16:][:8], s.bytes[v6Super+16:]) // changes make no name more
		return
	}
	le.PutUint64(b[24:], v5Numbers(b)-s.uncounted)
}

// v5Numbers counts the distinct numbers of inodes.
func v5Numbers(b []byte) uint64 {
	numbers := make(map[uint64]bool)
	for _, at := range v5Records(b) {
		numbers[le.Uint64(b[at+40:])] = true
	}
	return uint64(len(numbers))
}

// mendLinks stores in v5 how many names the inodes have that are no directories.
func (s *Sample) mendLinks(b []byte) {
	if s.v6 {
		return
	}
	links := make(map[uint64]uint32)
	records := v5Records(b)
	for _, at := range records {
		links[le.Uint64(b[at+40:])]++
	}
	for _, at := range records {
		if le.Uint32(b[at+60:])&typeMask != typeDir {
			le.PutUint32(b[at+88:], links[le.Uint64(b[at+40:])])
		}
	}
}

// mendDigests computes the digests of all inodes, from the last of the table to the
// root: a directory's is made of those of its entries.
func (s *Sample) mendDigests(b []byte) {
	const sha256Flag = 0x8
	hash := blake3.Sum256
	if le.Uint64(b[16:])&sha256Flag != 0 {
		hash = sha256.Sum256
	}
	part := func(at, size int) []byte {
		if at < 0 || size < 0 || at > len(b) || size > len(b)-at {
			return nil
		}
		return b[at:][:size]
	}
	records := v5Records(b)
	for k := len(records) - 1; k >= 0; k-- {
		r := b[records[k]:]
		next := records[k] + v5RecordSize + align8(int(le.Uint16(r[100:])))
		size := int(le.Uint16(r[102:]))
		var content []byte
		switch le.Uint32(r[60:]) & typeMask {
		case typeSymlink:
			content = part(next, size)
		case typeDir:
			first := int(le.Uint32(r[92:])) - 1
			for child := first; child < first+int(le.Uint32(r[96:])) && child >= 0 && child < len(records); child++ {
				content = append(content, b[records[child]:][:32]...)
			}
		case typeRegular:
			next += align8(size)
			if le.Uint64(r[80:])&v5HasXattr != 0 {
				if stored := part(next, 8); stored != nil {
					next += 8 + align8(int(le.Uint64(stored)&(1<<40-1)))
				}
			}
			for c := range int(le.Uint32(r[96:])) {
				digest := part(next+chunkRecord*c, 32)
				if digest == nil {
					break
				}
				content = append(content, digest...)
			}
		}
		sum := hash(content)
		copy(r, sum[:])
	}
}
