// Package rafs reads the metadata of a Nydus image: a bootstrap, that is one
// RAFS superblock (version 5 or 6) with its tree of inodes.
//
// The nouns, used by every other package:
//
//   - a Tree is a bootstrap that has been opened;
//   - an Inode is one object of the tree, an Entry a name for it in a directory;
//   - a Chunk is the unit of file data: a range of a data blob, compressed,
//     and the digest of what it decompresses to;
//   - a Blob is a data blob as the bootstrap's blob table describes it.
//
// The package never reads data blobs. A [ChunkReader], which package blob
// implements, turns chunks into bytes; with one, [Tree.FS] is an io/fs
// filesystem and [Inode.Open] a file.
//
// Everything that comes out of a bootstrap has been checked against the size
// of the bootstrap and against the limits in limits.go before memory is spent
// on it. What contradicts the format is [ErrCorrupt]; what is well-formed but
// not read by this package is [ErrUnsupported], and its message names the
// feature.
//
// A Tree is immutable and safe for concurrent use.
package rafs

import (
	"errors"
	"time"
)

var (
	// ErrCorrupt is wrapped by errors about bytes that contradict the format.
	ErrCorrupt = errors.New("corrupt RAFS metadata")
	// ErrUnsupported is wrapped by errors about formats and features that are
	// well-formed but not read by this package.
	ErrUnsupported = errors.New("unsupported RAFS feature")
)

// Version is the version of the on-disk format.
type Version uint8

// The versions that Open reads.
const (
	V5 Version = 5
	V6 Version = 6
)

// A Digester is the hash function of chunk digests.
type Digester uint8

// The digesters, with the numbers that the format gives them.
const (
	Blake3 Digester = 0
	SHA256 Digester = 1
)

// A Compressor is how the chunks of a blob are compressed.
type Compressor uint8

// The compressors, with the numbers that the format gives them.
const (
	CompressorNone Compressor = 0
	CompressorLZ4  Compressor = 1 // raw LZ4 blocks
	CompressorGzip Compressor = 2 // only in images that refer to (e)stargz layers
	CompressorZstd Compressor = 3
)

// A Cipher is how a blob is encrypted.
type Cipher uint32

// The ciphers, with the numbers that the format gives them.
const (
	CipherNone      Cipher = 0
	CipherAES128XTS Cipher = 1
)

// BlobFeatures are the feature bits of a blob table entry
// (storage/src/device.rs of the Nydus project).
type BlobFeatures uint32

// The features that matter to a reader.
const (
	BlobAligned            BlobFeatures = 0x1
	BlobInlinedMeta        BlobFeatures = 0x2 // the blob holds its own layer bootstrap
	BlobChunkInfoV2        BlobFeatures = 0x4
	BlobZran               BlobFeatures = 0x8  // data lies in an OCI tar.gz layer
	BlobSeparate           BlobFeatures = 0x10 // blob.meta lies in another blob
	BlobInlinedChunkDigest BlobFeatures = 0x20
	BlobTarfs              BlobFeatures = 0x40
	BlobBatch              BlobFeatures = 0x80
	BlobEncrypted          BlobFeatures = 0x100
	BlobChunkDict          BlobFeatures = 0x200
	BlobPrefetchSeparated  BlobFeatures = 0x400
	BlobExternal           BlobFeatures = 0x800
	BlobHasTarHeader       BlobFeatures = 0x10000000
	BlobHasTOC             BlobFeatures = 0x20000000
	BlobCapTarTOC          BlobFeatures = 0x40000000
)

// A Blob is an entry of the blob table: one data blob that the tree refers to.
// Offsets and sizes are in bytes.
type Blob struct {
	Index int
	// ID is the blob's digest in hexadecimal, without algorithm. In a layer
	// bootstrap that lies inside its own data blob it is a placeholder
	// (BlobInlinedMeta set, BlobSeparate not).
	ID         string
	Features   BlobFeatures
	Compressor Compressor // v5: that of the superblock
	Digester   Digester   // v5: that of the superblock
	ChunkSize  uint32
	ChunkCount uint32
	// CompressedSize and UncompressedSize are as stored; 0 where a v5 image
	// has no extended blob table.
	CompressedSize   uint64
	UncompressedSize uint64
	// ReadaheadOffset and ReadaheadSize are the part of the blob that a runtime
	// fetches ahead, compressed (v5 only).
	ReadaheadOffset, ReadaheadSize uint32
	// Meta locates blob.meta, the blob's own chunk table (v6 only).
	Meta BlobMeta
	// TOCSize and TOCDigest (SHA-256) describe the table of contents in the
	// blob's tail; converters commonly leave them zero.
	TOCSize   uint32
	TOCDigest [32]byte
	// MetaDigest (SHA-256) and MetaSize describe the separate blob that holds
	// blob.meta; zero in an encrypted blob, which has Secret in their place.
	MetaDigest [32]byte
	MetaSize   uint64
	// Cipher is how the blob's chunks and its blob.meta are encrypted, Secret
	// what it takes to read them.
	Cipher Cipher
	Secret Secret
}

// BlobMeta locates the compressed chunk table ("blob.meta") of a blob; a
// header of 4096 bytes follows it directly.
type BlobMeta struct {
	Compressor       Compressor
	Offset           uint64 // in the blob that holds it
	CompressedSize   uint64
	UncompressedSize uint64
}

// ChunkFlags are the flag bits of a chunk.
type ChunkFlags uint32

// The chunk flags (storage/src/device.rs of the Nydus project).
const (
	ChunkCompressed ChunkFlags = 0x1
	ChunkHole       ChunkFlags = 0x2
	ChunkEncrypted  ChunkFlags = 0x4
	ChunkBatch      ChunkFlags = 0x8
	ChunkHasCRC32   ChunkFlags = 0x10
)

// A Chunk is one piece of a regular file.
type Chunk struct {
	Blob  int    // index into Tree.Blobs
	Index uint32 // in that blob's chunk table
	Flags ChunkFlags
	// CompressedOffset and CompressedSize say where the chunk lies in the blob.
	// They are meaningless where the blob is a batch or zran blob: there
	// blob.meta locates the data.
	CompressedOffset uint64
	CompressedSize   uint32
	// UncompressedOffset is the chunk's place in the decompressed blob.
	UncompressedOffset uint64
	UncompressedSize   uint32
	// FileOffset is the chunk's place in the file.
	FileOffset int64
	// Digest is that of the uncompressed bytes, by the blob's digester. It is
	// there only if HasDigest: a v6 bootstrap may lack the chunk table.
	Digest    [32]byte
	HasDigest bool
	CRC32     uint32 // CRC-32C, only with ChunkHasCRC32
}

// An Inode is one object of a tree. The zero Inode is not valid; the methods
// that read more of the bootstrap are in inode.go.
type Inode struct {
	// Number identifies the inode: entries with the same number are hard links
	// to one file (i_ino in v5, nid in v6).
	Number uint64
	// Mode is st_mode as in Linux: type, setuid, setgid, sticky, permissions.
	Mode  uint32
	UID   uint32
	GID   uint32
	Links uint32
	// Rdev is the device number as the kernel gives it in st_rdev's 32-bit
	// encoding; 0 but for devices.
	Rdev uint32
	// Size is in bytes. That of a directory is made up by the builder.
	Size int64
	// MTime and MTimeNsec are the time of the last change, seconds since 1970
	// (may be negative) and nanoseconds.
	MTime     int64
	MTimeNsec uint32

	tree *Tree
	node uint64 // place in the bootstrap: v5 inode table index, v6 nid
}

// An Entry is a name in a directory.
type Entry struct {
	Name  string
	Inode Inode
}

// A ChunkReader gives the bytes of chunks.
type ChunkReader interface {
	// ReadChunk returns the c.UncompressedSize bytes of c, verified. The slice
	// is shared: the caller must not change it.
	ReadChunk(c *Chunk) ([]byte, error)
}

// Superblock is what the superblock says of the whole tree.
type Superblock struct {
	Version    Version
	Flags      Flags
	ChunkSize  uint32 // bytes
	Inodes     uint64 // as declared, not counted
	Compressor Compressor
	Digester   Digester
}

// Modified returns the inode's time of last change.
func (i Inode) Modified() time.Time { return time.Unix(i.MTime, int64(i.MTimeNsec)) }
