// Package consistency says whether two filesystems, and two images, are the
// same.
//
// A [Filesystem] walks its paths as [Node] values: type, mode, owner, times,
// device number, link target, extended attributes, hard links and content.
// [Tree] is one over a Nydus image's bootstrap and data, [Dir] one over a folder
// of this machine, such as a mount by nydusd; the layers of an OCI image,
// applied in memory, are a third. [Compare] reports every difference, field by
// field. [Check] asks that and more of a Nydus image and of the OCI image that
// it was made from.
package consistency

import (
	"fmt"
	"io"
	"time"
)

// A Node is what a filesystem has under one path.
type Node struct {
	Path string // slash-separated, "." is the root
	// Mode is st_mode as in Linux.
	Mode  uint32
	UID   uint32
	GID   uint32
	Rdev  uint64 // major<<32 | minor; 0 but for devices
	Size  int64  // of regular files and symbolic links; else 0
	MTime time.Time
	// NoMTime says that nothing says what MTime is: what the source does not say is
	// not compared.
	NoMTime bool
	// Target is that of a symbolic link.
	Target string
	Xattrs map[string][]byte
	// Links is how many names the file has, 1 for directories; Inode tells which
	// names are one file, within one filesystem.
	Links uint64
	Inode uint64
	// Open gives the content of a regular file; nil if it is known by sums only.
	Open func() (io.ReadCloser, error)

	// content is what the content of a file of an OCI image hashes to: it has
	// streamed by. nil where it was not hashed.
	content *sums
	// metadata tells the content of a file of a Nydus image without reading it.
	metadata *treeContent
}

// A Filesystem walks its nodes, each path once.
type Filesystem interface {
	Walk(fn func(Node) error) error
}

// A Difference is one field in which two filesystems differ at a path.
type Difference struct {
	Path  string
	Field string // "missing", "extra", or a field's name
	Want  string
	Got   string
	// Detail, if not "", says more: where content differs.
	Detail string
	// Source and Target are all that the two have at the path; nil where they have
	// nothing.
	Source, Target *Node
}

func (d Difference) String() string {
	switch d.Field {
	case "missing", "extra":
		return fmt.Sprintf("%q: %s", d.Path, d.Field)
	}
	text := fmt.Sprintf("%q: %s is %s, want %s", d.Path, d.Field, d.Got, d.Want)
	if d.Detail != "" {
		text += " (" + d.Detail + ")"
	}
	return text
}

// What st_mode says of a node's type.
const (
	typeMask    = 0o170000
	typeSocket  = 0o140000
	typeDir     = 0o040000
	typeFIFO    = 0o010000
	typeChar    = 0o020000
	typeBlock   = 0o060000
	typeRegular = 0o100000
	typeSymlink = 0o120000
)

// normalize leaves out what a node of its type does not have.
func (n Node) normalize() Node {
	switch n.Mode & typeMask {
	case typeDir:
		n.Size, n.Links, n.Rdev = 0, 1, 0
	case typeChar, typeBlock:
		n.Size = 0
	case typeRegular, typeSymlink:
		n.Rdev = 0
	default:
		n.Size, n.Rdev = 0, 0
	}
	return n
}

func (n *Node) isDir() bool     { return n.Mode&typeMask == typeDir }
func (n *Node) isRegular() bool { return n.Mode&typeMask == typeRegular }

// Type returns the name of the node's type.
func (n *Node) Type() string {
	switch n.Mode & typeMask {
	case typeDir:
		return "directory"
	case typeRegular:
		return "regular file"
	case typeSymlink:
		return "symbolic link"
	case typeChar:
		return "character device"
	case typeBlock:
		return "block device"
	case typeFIFO:
		return "FIFO"
	case typeSocket:
		return "socket"
	}
	return fmt.Sprintf("unknown (%#o)", n.Mode&typeMask)
}
