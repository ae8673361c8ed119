package consistency

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Dir is a [Filesystem] over a folder of this machine.
func Dir(root string) Filesystem { return dirFilesystem(root) }

type dirFilesystem string

func (d dirFilesystem) Walk(fn func(Node) error) error {
	return filepath.WalkDir(string(d), func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var stat unix.Stat_t
		if err := unix.Lstat(name, &stat); err != nil {
			return fmt.Errorf("stat %s: %w", name, err)
		}
		path, err := filepath.Rel(string(d), name)
		if err != nil {
			return err
		}
		n := Node{
			Path: path, Mode: stat.Mode, UID: stat.Uid, GID: stat.Gid, Size: stat.Size,
			MTime: time.Unix(stat.Mtim.Unix()),
			Rdev:  uint64(unix.Major(stat.Rdev))<<32 | uint64(unix.Minor(stat.Rdev)),
			Links: uint64(stat.Nlink), Inode: stat.Ino,
		}
		if n.Xattrs, err = xattrs(name); err != nil {
			return err
		}
		switch stat.Mode & unix.S_IFMT {
		case unix.S_IFLNK:
			if n.Target, err = os.Readlink(name); err != nil {
				return err
			}
		case unix.S_IFREG:
			n.Open = func() (io.ReadCloser, error) { return os.Open(name) }
		}
		return fn(n.normalize())
	})
}

// xattrs reads all extended attributes of a file, not following a link.
func xattrs(name string) (map[string][]byte, error) {
	size, err := unix.Llistxattr(name, nil)
	if err != nil {
		return nil, fmt.Errorf("list xattrs of %s: %w", name, err)
	}
	list := make([]byte, size)
	if size, err = unix.Llistxattr(name, list); err != nil {
		return nil, fmt.Errorf("list xattrs of %s: %w", name, err)
	}
	values := make(map[string][]byte)
	for key := range bytes.SplitSeq(list[:size], []byte{0}) {
		if len(key) == 0 {
			continue
		}
		value := make([]byte, 64<<10) // the kernel's limit
		n, err := unix.Lgetxattr(name, string(key), value)
		if err != nil {
			return nil, fmt.Errorf("read xattr %s of %s: %w", key, name, err)
		}
		values[string(key)] = value[:n]
	}
	return values, nil
}
