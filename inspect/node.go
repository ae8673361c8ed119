package inspect

import (
	"fmt"
	"time"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// A Node is what a tree has under one path.
type Node struct {
	Path       string `json:"path"` // absolute
	PathBase64 []byte `json:"path_base64,omitempty"`
	Type       string `json:"type"` // see typeNames
	Mode       string `json:"mode"` // permissions, setuid, setgid and sticky, octal
	UID        uint32 `json:"uid"`
	GID        uint32 `json:"gid"`
	Size       int64  `json:"size"` // bytes; that of a directory is made up by the builder
	// MTime and MTimeNsec are seconds since 1970 and nanoseconds.
	MTime     int64  `json:"mtime"`
	MTimeNsec uint32 `json:"mtime_nsec"`
	// Inode is the number of the inode: its index in v5, its nid in v6. Paths with
	// the same number are hard links.
	Inode        uint64 `json:"inode"`
	Links        uint32 `json:"links"`
	Device       string `json:"device,omitempty"` // major:minor, of devices
	Target       string `json:"target,omitempty"` // of symbolic links
	TargetBase64 []byte `json:"target_base64,omitempty"`

	inode rafs.Inode
}

// A fileType is a type of file, as st_mode has it.
type fileType struct {
	mode   uint32
	letter byte // as in ls -l; find takes f for a file
	name   string
}

const modeType = 0o170000

var fileTypes = []fileType{
	{0o100000, '-', "file"},
	{0o040000, 'd', "directory"},
	{0o120000, 'l', "symlink"},
	{0o020000, 'c', "character device"},
	{0o060000, 'b', "block device"},
	{0o010000, 'p', "fifo"},
	{0o140000, 's', "socket"},
}

// typeOf returns an inode's type, which is one of the seven.
func typeOf(i rafs.Inode) fileType {
	for _, t := range fileTypes {
		if i.Mode&modeType == t.mode {
			return t
		}
	}
	return fileType{letter: '?', name: fmt.Sprintf("%#o", i.Mode)}
}

// newNode describes an inode under a path of package rafs.
func newNode(name string, i rafs.Inode) (Node, error) {
	full := absolute(name)
	n := Node{
		Path: full, PathBase64: bytesOf(full), Type: typeOf(i).name, Mode: octal(i.Mode), UID: i.UID, GID: i.GID,
		Size: i.Size, MTime: i.MTime, MTimeNsec: i.MTimeNsec, Inode: i.Number, Links: i.Links, inode: i,
	}
	switch typeOf(i).letter {
	case 'c', 'b':
		major, minor := device(i.Rdev)
		n.Device = fmt.Sprintf("%d:%d", major, minor)
	case 'l':
		target, err := i.Readlink()
		if err != nil {
			return Node{}, fmt.Errorf("%s: %w", n.Path, err)
		}
		n.Target, n.TargetBase64 = target, bytesOf(target)
	}
	return n, nil
}

// device takes a device number apart, as Linux encodes it in 32 bits
// (new_decode_dev).
func device(rdev uint32) (major, minor uint32) {
	return rdev >> 8 & 0xfff, rdev&0xff | rdev>>12&0xfff00
}

func octal(mode uint32) string {
	var digits [4]byte
	for k := range digits {
		digits[k] = '0' + byte(mode>>(9-3*k)&7)
	}
	return string(digits[:])
}

// permissions shows a mode as ls -l does.
func permissions(i rafs.Inode) string {
	out := []byte("?rwxrwxrwx")
	out[0] = typeOf(i).letter
	for k := range 9 {
		if i.Mode>>(8-k)&1 == 0 {
			out[1+k] = '-'
		}
	}
	for _, special := range []struct {
		bit    uint32
		at     int
		letter byte // where the permission to execute is there, too
	}{{0o4000, 3, 's'}, {0o2000, 6, 's'}, {0o1000, 9, 't'}} {
		if i.Mode&special.bit == 0 {
			continue
		}
		if out[special.at] == 'x' {
			out[special.at] = special.letter
		} else {
			out[special.at] = special.letter - 'a' + 'A'
		}
	}
	return string(out)
}

// timeText shows a time to the second, in UTC.
func timeText(i rafs.Inode) string { return i.Modified().UTC().Format("2006-01-02 15:04:05") }

// timeExact shows a time as it is stored, in UTC.
func timeExact(i rafs.Inode) string { return i.Modified().UTC().Format(time.RFC3339Nano) }

// arrow shows where a symbolic link leads, "" for what is none.
func (n *Node) arrow() string {
	if n.Target == "" {
		return ""
	}
	return " -> " + Escape(n.Target)
}
