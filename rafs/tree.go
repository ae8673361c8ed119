package rafs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
)

// A Tree is an opened bootstrap. It holds the whole bootstrap in memory.
type Tree struct {
	format format
	size   uint64 // of the bootstrap, in bytes
	names  int64  // how many it may have
	lists  int64  // how many bytes the lists that belong to the names may take
	root   Inode
}

// Open reads the bootstrap of size bytes from r, once and whole.
//
// It checks what concerns the whole image: the superblock, the blob table and
// the root. Inodes are checked when they are reached. The error wraps
// [ErrCorrupt], [ErrUnsupported] or what r returned.
func Open(r io.ReaderAt, size int64) (*Tree, error) {
	t, err := open(r, size)
	if err != nil {
		return nil, fmt.Errorf("open bootstrap: %w", err)
	}
	return t, nil
}

// OpenBytes is Open for a bootstrap that is in memory: the tree keeps b, which must
// not change any more.
func OpenBytes(b []byte) (*Tree, error) {
	t, err := openBytes(b)
	if err != nil {
		return nil, fmt.Errorf("open bootstrap: %w", err)
	}
	return t, nil
}

func open(r io.ReaderAt, size int64) (*Tree, error) {
	if size < 0 {
		return nil, corruptf("its size is negative")
	}
	if size > MaxBootstrapSize {
		return nil, errTooLarge(size)
	}
	head := make([]byte, min(size, headSize))
	if err := readFull(r, head); err != nil {
		return nil, err
	}
	if _, err := checkFormat(head); err != nil {
		return nil, err
	}
	m := make(metadata, size)
	if err := readFull(r, m); err != nil {
		return nil, err
	}
	return openBytes(m)
}

func errTooLarge(size int64) error {
	return unsupportedf("its %d bytes are more than the %d that nydusd reads", size, int64(MaxBootstrapSize))
}

func openBytes(m metadata) (*Tree, error) {
	if int64(len(m)) > MaxBootstrapSize {
		return nil, errTooLarge(int64(len(m)))
	}
	version, err := checkFormat(m[:min(len(m), headSize)])
	if err != nil {
		return nil, err
	}
	f, err := openFormat(version, m)
	if err != nil {
		return nil, err
	}
	t := &Tree{format: f, size: uint64(len(m)), names: DefaultNames, lists: DefaultMetadata}
	if t.root, err = t.inode(f.root()); err != nil {
		return nil, fmt.Errorf("read root inode: %w", err)
	}
	if !t.root.IsDir() {
		return nil, corruptf("the root is not a directory")
	}
	return t, nil
}

// readFull fills b from the start of r.
func readFull(r io.ReaderAt, b []byte) error {
	n, err := r.ReadAt(b, 0)
	switch {
	case n == len(b):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return corruptf("it ends after %d of %d bytes: %w", n, len(b), io.ErrUnexpectedEOF)
	}
	return err
}

// Allow sets how many names the tree may have, in place of [DefaultNames], and how
// many bytes the lists of chunks and extended attributes of all its names may take, in
// place of [DefaultMetadata]. It must be called before anything else is done with the
// tree.
func (t *Tree) Allow(names, lists int64) { t.names, t.lists = names, lists }

// Size is that of the bootstrap, in bytes.
func (t *Tree) Size() int64 { return int64(t.size) }

// Superblock returns what the superblock says of the whole tree.
func (t *Tree) Superblock() Superblock { return t.format.superblock() }

// Blobs returns the blob table. It is shared: the caller must not change it.
func (t *Tree) Blobs() []Blob { return t.format.blobs() }

// LacksChunkTable says whether the bootstrap has data and no table of its chunks, as
// is possible in v6: then it says of a chunk its number in the blob and its place in
// the decompressed blob, but neither where it is stored nor its digest.
func (t *Tree) LacksChunkTable() bool {
	f, ok := t.format.(*v6)
	return ok && len(f.chunkMap.table) == 0 && len(f.blobTable) > 0
}

// WithChunks returns the tree of a bootstrap that lacks a chunk table, whose chunks
// complete fills in: what the bootstrap says of them stays as it is, and a chunk of
// which nothing is known, too. It is called for each chunk of each list that is
// read, by several goroutines at once. Other trees are returned as they are.
func (t *Tree) WithChunks(complete func(*Chunk) error) *Tree {
	if !t.LacksChunkTable() {
		return t
	}
	completed := *t
	completed.format = t.format.(*v6).withChunks(complete)
	completed.root.tree = &completed
	return &completed
}

// Root returns the root directory.
func (t *Tree) Root() Inode { return t.root }

// Lookup returns the inode of a slash-separated path without a leading slash;
// "." is the root. It follows no symbolic link. Names need not be UTF-8.
//
// The error is a [*fs.PathError], with [fs.ErrInvalid] for a malformed path and
// [fs.ErrNotExist] where there is no such name.
func (t *Tree) Lookup(name string) (Inode, error) {
	inode, err := t.lookup(name)
	if err != nil {
		return Inode{}, &fs.PathError{Op: "lookup", Path: name, Err: err}
	}
	return inode, nil
}

func (t *Tree) lookup(name string) (Inode, error) {
	if !validPath(name) {
		return Inode{}, fs.ErrInvalid
	}
	inode := t.root
	if name == "." {
		return inode, nil
	}
	for element := range strings.SplitSeq(name, "/") {
		var err error
		if inode, err = inode.Child(element); err != nil {
			return Inode{}, err
		}
	}
	return inode, nil
}

// inode decodes the inode at node.
func (t *Tree) inode(node uint64) (Inode, error) {
	inode, err := t.format.inode(node)
	if err != nil {
		return Inode{}, err
	}
	inode.tree, inode.node = t, node
	return inode, nil
}
