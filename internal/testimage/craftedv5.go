package testimage

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"path"
	"slices"
	"strings"
)

// A CraftedFile is an inode of a bootstrap that no converter makes. What its fields do not say, a converter would: Alter
// changes the rest.
type CraftedFile struct {
	Path   string // names may be anything but empty; directories above are made
	Mode   uint32 // st_mode; zero: a regular file with mode 0644
	Data   []byte // of a regular file: a chunk of its own
	Target string // of a symbolic link, with Mode 0o120777

	// Chunks stand in place of Data's. Size is then the file's.
	Chunks []CraftedChunk
	Size   uint64
	Hole   bool // there may be holes between chunks

	Xattrs []byte // the area as stored, without its size; nil: there is none
	// Alter changes the record of 128 bytes; node is its place in the inode table.
	Alter func(record []byte, node uint32)
}

// A CraftedChunk is a chunk record. Offsets and sizes are in bytes.
type CraftedChunk struct {
	Blob       uint32
	Index      uint32
	Flags      uint32 // 1: compressed
	Offset     uint64 // in the blob
	Stored     uint32
	Size       uint32
	Place      uint64 // in the decompressed blob
	FileOffset uint64
	Digest     [32]byte // SHA-256
}

// CraftedDir is a directory of a crafted tree.
func CraftedDir(name string) CraftedFile { return CraftedFile{Path: name, Mode: 0o040755} }

// CraftedText is a regular file of a crafted tree.
func CraftedText(name, content string) CraftedFile {
	return CraftedFile{Path: name, Data: []byte(content)}
}

// CraftedLink is a symbolic link of a crafted tree.
func CraftedLink(name, target string) CraftedFile {
	return CraftedFile{Path: name, Mode: 0o120777, Target: target}
}

// Flags of a RAFS v5 superblock and inode.
const (
	craftedSuperFlags = 0x80 | 0x8 | 0x10 | 0x20 // zstd, SHA-256, owners as stored, extended attributes
	craftedSymlink    = 0x1
	craftedXattr      = 0x4
	craftedHole       = 0x8

	craftedChunkSize = 16 << 20
)

// CraftedBlob is an entry of a crafted blob table.
type CraftedBlob struct {
	ID       string
	Features uint32
	Chunks   uint32
	Stored   uint64 // of its data, bytes
	Size     uint64
}

// CraftV5 makes a bootstrap of RAFS v5. Chunks lists the chunk of each Data, in the order of the files.
func CraftV5(files []CraftedFile, blobs []CraftedBlob, chunks func(f *CraftedFile) []CraftedChunk) []byte {
	nodes := craftedTree(files)
	b := make([]byte, 8192+8) // nydusd takes no inode that begins where the superblock ends
	le := binary.LittleEndian
	var table []byte
	for i, n := range nodes {
		table = le.AppendUint32(table, uint32(len(b)/8))
		b = append(b, n.record(uint32(i+1), chunks)...)
	}
	tableAt := len(b)
	b = append(b, table...)
	b = append(b, make([]byte, -len(b)&7)...)
	blobsAt, ids := len(b), []byte{}
	for i, blob := range blobs {
		ids = append(append(ids, make([]byte, 8)...), blob.ID...)
		if i+1 < len(blobs) {
			ids = append(ids, 0)
		}
	}
	ids = append(ids, make([]byte, -len(ids)&7)...)
	b = append(b, ids...)
	extendedAt := len(b)
	for _, blob := range blobs {
		e := make([]byte, 64)
		le.PutUint32(e, blob.Chunks)
		le.PutUint32(e[4:], blob.Features)
		le.PutUint64(e[8:], blob.Size)
		le.PutUint64(e[16:], blob.Stored)
		b = append(b, e...)
	}
	le.PutUint32(b, 0x52414653)
	le.PutUint32(b[4:], 0x500)
	le.PutUint32(b[8:], 8192)
	le.PutUint32(b[12:], craftedChunkSize)
	le.PutUint64(b[16:], craftedSuperFlags)
	le.PutUint64(b[24:], uint64(len(nodes)))
	le.PutUint64(b[32:], uint64(tableAt))
	le.PutUint64(b[48:], uint64(blobsAt))
	le.PutUint32(b[56:], uint32(len(nodes)))
	le.PutUint32(b[64:], uint32(len(ids)))
	le.PutUint32(b[68:], uint32(len(blobs)))
	le.PutUint64(b[72:], uint64(extendedAt))
	return append(b, make([]byte, -len(b)&7)...)
}

// A craftedNode is an inode with its place in the tree.
type craftedNode struct {
	CraftedFile
	name     string
	parent   uint32 // number of the parent; 0 of the root
	children []*craftedNode
	first    uint32 // number of the first child
}

// craftedTree numbers the files breadth first, the root first, children by name.
func craftedTree(files []CraftedFile) []*craftedNode {
	root := &craftedNode{CraftedFile: CraftedDir("."), name: "/"}
	known := map[string]*craftedNode{".": root}
	var add func(f CraftedFile) *craftedNode
	add = func(f CraftedFile) *craftedNode {
		if n := known[f.Path]; n != nil {
			n.CraftedFile = f
			return n
		}
		dir, base := path.Split(f.Path)
		dir = cmp.Or(strings.TrimSuffix(dir, "/"), ".")
		parent := known[dir]
		if parent == nil {
			parent = add(CraftedDir(dir))
		}
		n := &craftedNode{CraftedFile: f, name: base}
		known[f.Path] = n
		parent.children = append(parent.children, n)
		return n
	}
	for _, f := range files {
		add(f)
	}
	nodes := []*craftedNode{root}
	for i := 0; i < len(nodes); i++ {
		n := nodes[i]
		slices.SortFunc(n.children, func(a, b *craftedNode) int { return cmp.Compare(a.name, b.name) })
		n.first = uint32(len(nodes) + 1)
		for _, c := range n.children {
			c.parent = uint32(i + 1)
			nodes = append(nodes, c)
		}
	}
	return nodes
}

// record is the inode as stored, with what follows it.
func (n *craftedNode) record(node uint32, chunksOf func(*CraftedFile) []CraftedChunk) []byte {
	le := binary.LittleEndian
	b := make([]byte, 128)
	mode := cmp.Or(n.Mode, 0o100644)
	chunks, size := n.Chunks, n.Size
	if n.Data != nil {
		chunks, size = chunksOf(&n.CraftedFile), uint64(len(n.Data))
	}
	var flags uint64
	le.PutUint64(b[32:], uint64(n.parent))
	le.PutUint64(b[40:], uint64(node))
	le.PutUint32(b[60:], mode)
	le.PutUint32(b[88:], 1)
	le.PutUint64(b[112:], uint64(DefaultTime.Unix()))
	le.PutUint16(b[100:], uint16(len(n.name)))
	tail := append([]byte(n.name), make([]byte, -len(n.name)&7)...)
	switch {
	case mode&0o170000 == 0o040000:
		le.PutUint32(b[92:], n.first)
		le.PutUint32(b[96:], uint32(len(n.children)))
	case n.Target != "":
		flags |= craftedSymlink
		size = uint64(len(n.Target))
		le.PutUint16(b[102:], uint16(len(n.Target)))
		tail = append(append(tail, n.Target...), make([]byte, -len(n.Target)&7)...)
	default:
		le.PutUint32(b[96:], uint32(len(chunks)))
	}
	if n.Xattrs != nil {
		flags |= craftedXattr
		tail = le.AppendUint64(tail, uint64(len(n.Xattrs)))
		tail = append(append(tail, n.Xattrs...), make([]byte, -len(n.Xattrs)&7)...)
	}
	if n.Hole {
		flags |= craftedHole
	}
	le.PutUint64(b[64:], size)
	le.PutUint64(b[80:], flags)
	for _, c := range chunks {
		tail = append(tail, c.record()...)
	}
	if n.Alter != nil {
		n.Alter(b, node)
	}
	return append(b, tail...)
}

func (c *CraftedChunk) record() []byte {
	le := binary.LittleEndian
	b := make([]byte, 80)
	copy(b, c.Digest[:])
	le.PutUint32(b[32:], c.Blob)
	le.PutUint32(b[36:], c.Flags)
	le.PutUint32(b[40:], c.Stored)
	le.PutUint32(b[44:], c.Size)
	le.PutUint64(b[48:], c.Offset)
	le.PutUint64(b[56:], c.Place)
	le.PutUint64(b[64:], c.FileOffset)
	le.PutUint32(b[72:], c.Index)
	return b
}

// craftedData is the data of one crafted blob, uncompressed.
type craftedData struct {
	bytes  []byte
	chunks map[[32]byte]CraftedChunk
}

// add stores content and returns its chunk. Content that is there is not stored again.
func (d *craftedData) add(content []byte) CraftedChunk {
	sum := sha256.Sum256(content)
	if c, ok := d.chunks[sum]; ok {
		return c
	}
	c := CraftedChunk{
		Index: uint32(len(d.chunks)), Offset: uint64(len(d.bytes)), Stored: uint32(len(content)), Size: uint32(len(content)),
		Place: uint64(len(d.chunks)) * craftedChunkSize, Digest: sum,
	}
	d.bytes = append(d.bytes, content...)
	if d.chunks == nil {
		d.chunks = map[[32]byte]CraftedChunk{}
	}
	d.chunks[sum] = c
	return c
}

func (d *craftedData) table(id string, features uint32) CraftedBlob {
	return CraftedBlob{ID: id, Features: features, Chunks: uint32(len(d.chunks)), Stored: uint64(len(d.bytes)),
		Size: uint64(len(d.chunks)) * craftedChunkSize}
}
