package testimage

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"time"
)

// WithoutExtendedBlobTable returns a v5 bootstrap without the table of the blobs' sizes and features, as builders wrote it
// before v2.0: the superblock's fields for it were reserved.
func WithoutExtendedBlobTable(bootstrap []byte) []byte {
	out := append([]byte{}, bootstrap...)
	clear(out[68:80]) // entries, offset
	return out
}

// WithCompactInodes returns a v6 bootstrap in which each inode that fits has the compact form of EROFS, which has no time
// and 16 bits for owners and links. The record takes the second half of the place that the extended one had, so that
// what follows it stays; the names in the directories follow. Count is how many inodes were changed.
func WithCompactInodes(bootstrap []byte) (out []byte, count int) {
	c := compacter{image: append([]byte{}, bootstrap...), moved: map[uint64]uint64{}}
	c.inodes = uint64(binary.LittleEndian.Uint32(c.image[1024+40:])) << 12
	c.directory(uint64(binary.LittleEndian.Uint16(c.image[1024+14:])))
	return c.image, len(c.moved)
}

type compacter struct {
	image  []byte
	inodes uint64            // offset of the inodes
	moved  map[uint64]uint64 // old nid to new nid
}

// directory changes what a directory lists, and itself stays. Its data are blocks of 4096 bytes; a last one may lie behind the
// inode.
func (c *compacter) directory(nid uint64) {
	le := binary.LittleEndian
	inode := c.image[c.inodes+nid*32:]
	size, layout := le.Uint64(inode[8:]), le.Uint16(inode)>>1&7
	tail := c.inodes + nid*32 + 64
	if n := uint64(le.Uint16(inode[2:])); n > 0 {
		tail += 12 + (n-1)*4
	}
	for at := uint64(0); at < size; at += 4096 {
		start, length := (uint64(le.Uint32(inode[16:]))<<12)+at, min(size-at, 4096)
		if layout == 2 && at+length == size {
			start = tail
		}
		block := c.image[start : start+length]
		count := int(le.Uint16(block[8:]) / 12)
		for k := range count {
			entry := block[k*12:]
			name := block[le.Uint16(entry[8:]):]
			if k+1 < count {
				name = name[:le.Uint16(entry[12+8:])-le.Uint16(entry[8:])]
			}
			if n := strings.TrimRight(string(name), "\x00"); n == "." || n == ".." {
				continue
			}
			le.PutUint64(entry, c.compact(le.Uint64(entry), entry[10] == 2))
		}
	}
}

// compact changes an inode and returns its new nid. Directories keep their form: their entries "." and ".." name them.
func (c *compacter) compact(nid uint64, isDir bool) uint64 {
	if isDir {
		c.directory(nid)
		return nid
	}
	if moved, ok := c.moved[nid]; ok {
		return moved
	}
	le := binary.LittleEndian
	inode := c.image[c.inodes+nid*32:][:64]
	size, uid, gid, links := le.Uint64(inode[8:]), le.Uint32(inode[24:]), le.Uint32(inode[28:]), le.Uint32(inode[44:])
	if size > 1<<32-1 || uid > 1<<16-1 || gid > 1<<16-1 || links > 1<<16-1 {
		return nid
	}
	var record [32]byte
	copy(record[:6], inode[:6]) // format, extended attributes, mode
	record[0] &^= 1             // not extended
	le.PutUint16(record[6:], uint16(links))
	le.PutUint32(record[8:], uint32(size))
	copy(record[16:24], inode[16:24]) // data, inode number
	le.PutUint16(record[24:], uint16(uid))
	le.PutUint16(record[26:], uint16(gid))
	copy(inode[32:], record[:])
	c.moved[nid] = nid + 1
	return nid + 1
}

// ManyLayers is an image of n layers with data. The lowest has a secret, the next one that the highest deletes.
func ManyLayers(n int) Spec {
	s := Spec{Name: fmt.Sprintf("layers-%d", n)}
	for i := range n {
		s.Layers = append(s.Layers, Layer{Text(fmt.Sprintf("file-%03d", i), fmt.Sprintf("the only file of layer %d\n", i))})
	}
	if n > 2 {
		s.Layers[0] = append(s.Layers[0], SecretFile("secret.env"))
		s.Layers[1] = append(s.Layers[1], SecretFile("deleted.env"))
		s.Layers[n-1] = append(s.Layers[n-1], Whiteout("deleted.env"))
	}
	return s
}

// Times is an image of times that a tar holds in PAX records only: before 1970, and parts of a second.
func Times() Spec {
	return Spec{Name: "times", Layers: []Layer{{
		Text("before", "content\n").WithTime(time.Date(1969, 12, 31, 23, 59, 58, 500, time.UTC)),
		Text("long-before", "content\n").WithTime(time.Date(1901, 12, 14, 0, 0, 0, 0, time.UTC)),
		Text("parts", "content\n").WithTime(time.Date(2020, 1, 2, 3, 4, 5, 123456789, time.UTC)),
		Dir("dir").WithTime(time.Date(1960, 1, 1, 0, 0, 0, 999999999, time.UTC)),
		Sym("link", "parts").WithTime(time.Date(2000, 1, 1, 0, 0, 0, 1, time.UTC)),
	}}}
}

// The value of a POSIX ACL, version 2: owner rw-, user 1000 r--, group r--, mask r--, others ---.
const posixACL = "\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff\x02\x00\x04\x00\xe8\x03\x00\x00" +
	"\x04\x00\x04\x00\xff\xff\xff\xff\x10\x00\x04\x00\xff\xff\xff\xff\x20\x00\x00\x00\xff\xff\xff\xff"

// PlannedACLs is an image with extended attributes that WithACLs makes POSIX ACLs of: nydus-image 2.2.0 refuses those.
func PlannedACLs() Spec {
	return Spec{Name: "acls", Layers: []Layer{{
		Text("file", "content\n").WithMode(0o640).WithXattr("trusted.posix_acl_acces", posixACL),
		Dir("dir").WithXattr("trusted.posix_acl_defaul", posixACL).WithXattr("user.beside", "it"),
	}}}
}

// WithACLs returns a v5 bootstrap of PlannedACLs with ACLs. Names keep their lengths.
func WithACLs(bootstrap []byte) []byte {
	out := bytes.ReplaceAll(bootstrap, []byte("trusted.posix_acl_acces\x00"), []byte("system.posix_acl_access\x00"))
	return bytes.ReplaceAll(out, []byte("trusted.posix_acl_defaul\x00"), []byte("system.posix_acl_default\x00"))
}

// Whiteouts is an image whose lowest layer holds names of whiteouts: an empty file, as containers leave it out, one with a
// secret in it, a folder with one, and a link.
func Whiteouts() Spec {
	return Spec{Name: "whiteouts", Layers: []Layer{
		Layer{Whiteout("nothere"), SecretFile(".wh.content.env"), SecretFile(".wh.dir/inside.env"),
			Sym(".wh.link", "plain"), Text("plain", "content\n"), Opaque("etc")}.WithParents(),
		{Text("upper", "content\n")},
	}}
}
