package consistency

import (
	"archive/tar"
	"fmt"
	"maps"
	"math"
	"strings"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

const (
	// maxXattrNames is Linux' XATTR_LIST_MAX: how long the names of one file's
	// extended attributes may be, each with a NUL.
	maxXattrNames = 64 << 10
	// xattrPrefix is how a tar's PAX records spell extended attributes. Other
	// spellings (LIBARCHIVE.xattr, SCHILY.acl) are read neither by containerd
	// nor by the Nydus converter.
	xattrPrefix = "SCHILY.xattr."
	// xattrCapability is lost when a file's owner is set, as for each hard link.
	xattrCapability = "security.capability"
)

// newInode returns what an entry says of a file. It keeps nothing of the header:
// its strings are parts of longer ones.
func newInode(h *tar.Header) (*ociInode, error) {
	i := &ociInode{mode: uint32(h.Mode & 0o7777), mtime: h.ModTime}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse:
		i.mode |= typeRegular
		i.size = h.Size
	case tar.TypeDir:
		i.mode |= typeDir
	case tar.TypeSymlink:
		i.mode |= typeSymlink
		i.target, i.size = strings.Clone(h.Linkname), int64(len(h.Linkname))
		if len(i.target) == 0 || len(i.target) > maxPath {
			return nil, fmt.Errorf("a symbolic link to %d bytes", len(i.target))
		}
	case tar.TypeChar:
		i.mode |= typeChar
	case tar.TypeBlock:
		i.mode |= typeBlock
	case tar.TypeFifo:
		i.mode |= typeFIFO
	case tar.TypeLink: // what it is a link to says what it is
	default:
		return nil, fmt.Errorf("tar entries of type %q are not read: %w", h.Typeflag, rafs.ErrUnsupported)
	}
	if h.Uid < 0 || h.Gid < 0 || int64(h.Uid) > math.MaxUint32 || int64(h.Gid) > math.MaxUint32 {
		return nil, fmt.Errorf("owner %d:%d is out of range", h.Uid, h.Gid)
	}
	i.uid, i.gid = uint32(h.Uid), uint32(h.Gid)
	if h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock {
		if h.Devmajor < 0 || h.Devminor < 0 || h.Devmajor > math.MaxUint32 || h.Devminor > math.MaxUint32 {
			return nil, fmt.Errorf("device number %d:%d is out of range", h.Devmajor, h.Devminor)
		}
		i.rdev = uint64(h.Devmajor)<<32 | uint64(h.Devminor)
	}
	for key, value := range h.PAXRecords {
		if name, ok := strings.CutPrefix(key, xattrPrefix); ok {
			if i.xattrs == nil {
				i.xattrs = make(map[string][]byte)
			}
			i.xattrs[strings.Clone(name)] = []byte(value)
		}
	}
	return i, i.addXattrs(nil)
}

// addXattrs adds those of an earlier entry that this one does not set.
func (i *ociInode) addXattrs(earlier map[string][]byte) error {
	all := maps.Clone(earlier)
	if all == nil {
		all = i.xattrs
	} else {
		maps.Copy(all, i.xattrs)
	}
	length := 0
	for name := range all {
		length += len(name) + 1
	}
	if length > maxXattrNames {
		return fmt.Errorf("extended attributes with names of %d bytes: %w", length, rafs.ErrUnsupported)
	}
	i.xattrs = all
	return nil
}

// relink takes what the entry of a hard link says: unpacking sets it on the
// file.
func (i *ociInode) relink(entry *ociInode) error {
	i.uid, i.gid, i.mtime = entry.uid, entry.gid, entry.mtime
	if !i.isSymlink() {
		i.mode = i.mode&typeMask | entry.mode
	}
	earlier := maps.Clone(i.xattrs)
	delete(earlier, xattrCapability)
	i.xattrs = entry.xattrs
	return i.addXattrs(earlier)
}
