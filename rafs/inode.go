package rafs

import (
	"bytes"
	"fmt"
	"io/fs"
	"time"
)

// The type and special bits of st_mode in Linux (inode(7)).
const (
	modeType      = 0o170000
	modeSocket    = 0o140000
	modeSymlink   = 0o120000
	modeRegular   = 0o100000
	modeBlock     = 0o060000
	modeDirectory = 0o040000
	modeCharacter = 0o020000
	modeFIFO      = 0o010000
	modeSetuid    = 0o4000
	modeSetgid    = 0o2000
	modeSticky    = 0o1000
)

// checkMode rejects a mode whose type is none of the seven.
func checkMode(mode uint32) error {
	switch mode & modeType {
	case modeSocket, modeSymlink, modeRegular, modeBlock, modeDirectory, modeCharacter, modeFIFO:
		return nil
	}
	return corruptf("inode mode %#o has an unknown type", mode)
}

// isDevice tells whether rdev means something.
func isDevice(mode uint32) bool {
	return mode&modeType == modeCharacter || mode&modeType == modeBlock
}

// IsDir tells whether i is a directory.
func (i Inode) IsDir() bool { return i.Mode&modeType == modeDirectory }

// IsRegular tells whether i is a regular file.
func (i Inode) IsRegular() bool { return i.Mode&modeType == modeRegular }

// IsSymlink tells whether i is a symbolic link.
func (i Inode) IsSymlink() bool { return i.Mode&modeType == modeSymlink }

// FileMode returns Mode in the terms of io/fs.
func (i Inode) FileMode() fs.FileMode {
	mode := fs.FileMode(i.Mode & 0o777)
	switch i.Mode & modeType {
	case modeDirectory:
		mode |= fs.ModeDir
	case modeSymlink:
		mode |= fs.ModeSymlink
	case modeBlock:
		mode |= fs.ModeDevice
	case modeCharacter:
		mode |= fs.ModeDevice | fs.ModeCharDevice
	case modeFIFO:
		mode |= fs.ModeNamedPipe
	case modeSocket:
		mode |= fs.ModeSocket
	}
	if i.Mode&modeSetuid != 0 {
		mode |= fs.ModeSetuid
	}
	if i.Mode&modeSetgid != 0 {
		mode |= fs.ModeSetgid
	}
	if i.Mode&modeSticky != 0 {
		mode |= fs.ModeSticky
	}
	return mode
}

// Readlink returns the target of a symbolic link: 1 to 4096 bytes, not
// necessarily UTF-8. What is not a symbolic link is [fs.ErrInvalid].
func (i Inode) Readlink() (string, error) {
	if !i.IsSymlink() {
		return "", fmt.Errorf("read target of inode %d: not a symbolic link: %w", i.Number, fs.ErrInvalid)
	}
	target, err := i.tree.format.readlink(i.node)
	if err == nil {
		err = checkTarget(target)
	}
	if err != nil {
		return "", fmt.Errorf("read target of symbolic link inode %d: %w", i.Number, err)
	}
	return string(target), nil
}

func checkTarget(target []byte) error {
	switch {
	case len(target) == 0:
		return corruptf("it is empty")
	case len(target) > maxTargetLength:
		return corruptf("its %d bytes are more than %d", len(target), maxTargetLength)
	case bytes.IndexByte(target, 0) >= 0:
		return corruptf("it has a NUL byte")
	}
	return nil
}

// Xattrs returns the extended attributes by full name, such as
// "security.capability". The map is nil if there are none. It and its values
// are the caller's.
func (i Inode) Xattrs() (map[string][]byte, error) {
	var xattrs map[string][]byte
	left := i.tree.lists
	err := i.tree.format.xattrs(i.node, func(name string, value []byte) error {
		if xattrs == nil {
			xattrs = make(map[string][]byte)
		}
		if _, ok := xattrs[name]; ok {
			return corruptf("%q is there twice", name)
		}
		if left -= xattrSize(name, value); left < 0 {
			return &LimitError{Bound: BoundMetadata, What: "they", Allowed: i.tree.lists}
		}
		xattrs[name] = append([]byte{}, value...)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read extended attributes of inode %d: %w", i.Number, err)
	}
	return xattrs, nil
}

// Chunks returns the chunks of a regular file in file order. They do not
// overlap and lie inside the file; ranges that no chunk covers are zeros. The
// list is empty for whatever else has no data of its own.
func (i Inode) Chunks() ([]Chunk, error) {
	if !i.IsRegular() || i.Size == 0 {
		return nil, nil
	}
	if size := i.chunkListSize(); size > i.tree.lists {
		return nil, &LimitError{Bound: BoundMetadata, What: fmt.Sprintf("the chunk list of inode %d", i.Number), Allowed: i.tree.lists}
	}
	chunks, err := i.tree.format.chunks(i.node)
	if err != nil {
		return nil, fmt.Errorf("read chunk list of inode %d: %w", i.Number, err)
	}
	return chunks, nil
}

// chunkListSize is what the list of chunks takes. It counts as much for a chunk as v5
// stores.
func (i Inode) chunkListSize() int64 {
	if !i.IsRegular() || i.Size == 0 {
		return 0
	}
	count, err := i.tree.format.countChunks(i.node)
	if err != nil {
		return 0
	}
	return int64(count) * chunkRecordSize
}

// xattrSize is what an extended attribute takes, as an entry of a map.
func xattrSize(name string, value []byte) int64 {
	const entry = 80
	return int64(entry + len(name) + len(value))
}

// FileInfo returns i as io/fs has it. Its Sys is the [Inode].
func (i Inode) FileInfo(name string) fs.FileInfo { return fileInfo{name: name, inode: i} }

type fileInfo struct {
	name  string
	inode Inode
}

func (f fileInfo) Name() string       { return f.name }
func (f fileInfo) Size() int64        { return f.inode.Size }
func (f fileInfo) Mode() fs.FileMode  { return f.inode.FileMode() }
func (f fileInfo) ModTime() time.Time { return f.inode.Modified() }
func (f fileInfo) IsDir() bool        { return f.inode.IsDir() }
func (f fileInfo) Sys() any           { return f.inode }
func (f fileInfo) String() string     { return fs.FormatFileInfo(f) }
