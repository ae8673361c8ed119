package rafs

import "context"

// A format is one version of the on-disk format. It decodes and checks single
// structures; what they mean together (paths, walks, files) is decided above
// it, once for all versions. To add a version, implement this interface and
// name its magic number in openFormat.
//
// A node is where an inode lies, in the format's own terms: the index into the
// inode table in v5, the nid in v6. Any number may be passed as a node: it is
// checked.
type format interface {
	superblock() Superblock
	blobs() []Blob
	// prefetch returns the prefetch table: inode numbers of 32 bits.
	prefetch() ([]byte, error)

	// root returns the node of the root directory.
	root() uint64
	// nodes returns a number that is greater than all valid nodes. It is at
	// most the size of the bootstrap.
	nodes() uint64

	// inode decodes an inode; the caller fills in its tree. The type bits of
	// its mode are one of the seven types and its size is not negative.
	inode(node uint64) (Inode, error)
	// footprint returns how many bytes of the bootstrap an inode claims for
	// itself alone; a directory also claims what its entries take at least.
	// In an honest image these parts do not overlap, so the footprints of all
	// distinct inodes add up to less than the size of the bootstrap.
	footprint(node uint64) (uint64, error)
	// directory opens the list of names of a directory.
	directory(node uint64) (directory, error)
	// child finds a name in a directory, with a few steps in any number of names. It
	// relies on their order, and looks at no more of the list than it must.
	child(node uint64, name string) (child dirent, ok bool, err error)
	// readlink returns the target of a symbolic link as stored.
	readlink(node uint64) ([]byte, error)
	// xattrs calls yield for each extended attribute, with its full name.
	// Both slices are parts of the bootstrap.
	xattrs(node uint64, yield func(name string, value []byte) error) error
	// countChunks returns how many chunks the list of a regular file has, no more than
	// the bootstrap has room for.
	countChunks(node uint64) (uint64, error)
	// chunks returns the chunks of a regular file in the order of their file
	// offsets: without overlap, inside the file, and without gaps but for
	// holes that the format declares.
	chunks(node uint64) ([]Chunk, error)

	// agree returns an error that wraps ErrCorrupt where what belongs to the whole
	// image is stored twice and the two differ, so that runtimes which read by one
	// or the other show different files.
	agree() error
	// agreeInode is agree for what belongs to one inode.
	agreeInode(node uint64) error
	// agreeChunks is agree for the chunks of inodes; all says that no other inode is
	// in the tree.
	agreeChunks(ctx context.Context, reached bitSet, all bool) error

	// check returns what checks this version's parts; see Tree.Check.
	check(c *checker) formatCheck
	// parts returns the parts of the bootstrap that belong to the whole image.
	// Those that are not inside it are left out.
	parts() []part
	// inodeParts returns the parts that belong to an inode alone.
	inodeParts(node uint64) ([]part, error)
	// checkEntry reports where an inode contradicts the directory entry that leads
	// to it.
	checkEntry(e dirent, dir, child Inode, problem func(field string, want, got any))
}

// headSize is how much of a bootstrap openFormat looks at.
const headSize = v6SuperOffset + v6SuperSize

// IsBootstrap says whether a file's first bytes, some 2 KiB or all of them, are
// those of a bootstrap of RAFS v5 or v6. What else is in it may be anything.
func IsBootstrap(head []byte) bool { return isV5(head) || isV6(head) }

// checkFormat tells from the first bytes whether a bootstrap is of a version
// that openFormat reads, before the rest is read into memory.
func checkFormat(head []byte) (Version, error) {
	switch {
	case isV5(head):
		return V5, checkV5Version(head)
	case isV6(head):
		return V6, checkV6Features(head)
	}
	return 0, corruptf("no superblock of RAFS v5 or v6 found")
}

// openFormat decodes what belongs to the whole image.
func openFormat(version Version, m metadata) (format, error) {
	if version == V5 {
		return openV5(m)
	}
	return openV6(m)
}
