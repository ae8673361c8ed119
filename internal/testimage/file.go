package testimage

import (
	"archive/tar"
	"path"
	"time"
)

// Type is the kind of a File, one of the tar type flags.
type Type byte

// The kinds of file that a layer can hold.
const (
	Regular   Type = tar.TypeReg
	Directory Type = tar.TypeDir
	Symlink   Type = tar.TypeSymlink
	HardLink  Type = tar.TypeLink
	CharDev   Type = tar.TypeChar
	BlockDev  Type = tar.TypeBlock
	FIFO      Type = tar.TypeFifo
)

// DefaultTime is the modification time of a File that names none, and the creation time of every image.
var DefaultTime = time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC)

// OCI whiteouts, https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts.
const (
	whiteoutPrefix = ".wh."
	opaqueName     = ".wh..wh..opq"
)

// Layer is the files of one image layer in the order of its tar.
type Layer []File

// File is one entry of a layer.
type File struct {
	Path         string // relative to the root, slash-separated, without a trailing slash
	Type         Type
	Mode         int64 // permission bits with 04000 setuid, 02000 setgid, 01000 sticky, as in a tar header
	UID, GID     int
	ModTime      time.Time // zero: DefaultTime
	Data         []byte    // of a Regular file
	Link         string    // target of a Symlink; of a HardLink the path of a file before it in the same layer
	Xattrs       map[string]string
	Major, Minor int64 // of a CharDev or BlockDev
}

// Reg is a regular file with mode 0644.
func Reg(name string, data []byte) File {
	return File{Path: name, Type: Regular, Mode: 0o644, Data: data}
}

// Text is a regular file with mode 0644 that holds s.
func Text(name, s string) File { return Reg(name, []byte(s)) }

// Exec is a regular file with mode 0755.
func Exec(name string, data []byte) File { return Reg(name, data).WithMode(0o755) }

// Dir is a directory with mode 0755.
func Dir(name string) File { return File{Path: name, Type: Directory, Mode: 0o755} }

// Sym is a symbolic link at name that says target.
func Sym(name, target string) File {
	return File{Path: name, Type: Symlink, Mode: 0o777, Link: target}
}

// Hard is one more name of the file at target, which has to come before it in the same layer.
func Hard(name, target string) File {
	return File{Path: name, Type: HardLink, Mode: 0o644, Link: target}
}

// Char is a character device with mode 0600.
func Char(name string, major, minor int64) File {
	return File{Path: name, Type: CharDev, Mode: 0o600, Major: major, Minor: minor}
}

// Block is a block device with mode 0600.
func Block(name string, major, minor int64) File {
	return File{Path: name, Type: BlockDev, Mode: 0o600, Major: major, Minor: minor}
}

// Pipe is a FIFO with mode 0600.
func Pipe(name string) File { return File{Path: name, Type: FIFO, Mode: 0o600} }

// Whiteout is the entry that removes name, which lower layers hold.
func Whiteout(name string) File {
	return File{Path: path.Join(path.Dir(name), whiteoutPrefix+path.Base(name)), Type: Regular, Mode: 0o644}
}

// Opaque is the entry that removes all that lower layers hold in the directory dir.
func Opaque(dir string) File {
	return File{Path: path.Join(dir, opaqueName), Type: Regular, Mode: 0o644}
}

// WithMode returns the file with another mode.
func (f File) WithMode(mode int64) File { f.Mode = mode; return f }

// WithOwner returns the file with another owner and group.
func (f File) WithOwner(uid, gid int) File { f.UID, f.GID = uid, gid; return f }

// WithTime returns the file with another modification time.
func (f File) WithTime(at time.Time) File { f.ModTime = at; return f }

// WithXattr returns the file with one more extended attribute; the name has its namespace ("user.x").
func (f File) WithXattr(name, value string) File {
	xattrs := map[string]string{name: value}
	for k, v := range f.Xattrs {
		if k != name {
			xattrs[k] = v
		}
	}
	f.Xattrs = xattrs
	return f
}

// modTime is the time that stands in the tar.
func (f File) modTime() time.Time {
	if f.ModTime.IsZero() {
		return DefaultTime
	}
	return f.ModTime
}
