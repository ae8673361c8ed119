package rafs

// The limits that a bootstrap must keep. Sizes are in bytes. Where one
// names its constant in the Nydus project, an image that breaks it does not
// run either.
const (
	// MaxBootstrapSize is RAFS_MAX_METADATA_SIZE (rafs/src/metadata/mod.rs).
	MaxBootstrapSize = 2 << 30

	// minChunkSize and maxChunkSize bound the chunk size, a power of two:
	// EROFS_BLOCK_SIZE_4096 and RAFS_MAX_CHUNK_SIZE.
	minChunkSize = 4 << 10
	maxChunkSize = 16 << 20

	// maxBlobChunks is RAFS_MAX_CHUNKS_PER_BLOB: an inode of v6 has 24 bits
	// for a chunk's number.
	maxBlobChunks = 1 << 24

	// maxNameLength is Linux' NAME_MAX and RAFS_MAX_NAME.
	maxNameLength = 255

	// maxTargetLength is that of a symbolic link's target: Linux' PATH_MAX.
	maxTargetLength = 4096

	// maxBlobIDLength leaves room for old images, where an ID is any object
	// name; since v6 it is 64 hexadecimal digits.
	maxBlobIDLength = 255

	// maxPathLength bounds the paths that Walk reports, and so the depth of a
	// tree to 4096 levels. It is twice what Linux accepts in one system call.
	// Without it, a deep chain of directories above many files would make
	// paths worth a thousand times the size of the bootstrap.
	maxPathLength = 8192

	// maxSymlinks is how many symbolic links Linux follows in one path.
	maxSymlinks = 40
)
