package consistency

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"strings"
	"sync/atomic"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

const (
	// maxLayersMetadata bounds the memory that the layers' entries take, in bytes
	// as [budget] reckons them: that of some millions of files. Data is not
	// kept, so that a layer that decompresses to much costs time only.
	maxLayersMetadata = 2 << 30
	// nodeMetadata is what a name and its file are reckoned at, without what has
	// a length of its own.
	nodeMetadata = 512
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

// A budget is what layers that are read at the same time may take of memory.
type budget struct{ left atomic.Int64 }

func newBudget(bytes int64) *budget {
	b := new(budget)
	b.left.Store(bytes)
	return b
}

// charge takes bytes from the budget.
func (b *budget) charge(bytes int64) error {
	if bytes > math.MaxInt64/2 || b.left.Add(-bytes) < 0 {
		return fmt.Errorf("the layers' entries take more memory than is allowed: %w", rafs.ErrUnsupported)
	}
	return nil
}

// An ociLayer is one layer's tar as a tree: what containerd unpacks it to in a
// folder of its own, with whiteouts as marks.
type ociLayer struct {
	root   *ociNode
	links  []lowerLink
	plan   *plan
	budget *budget
	hasher *hasher
}

// A lowerLink is a hard link to a file that the layer itself does not have.
type lowerLink struct {
	node   *ociNode // of the link
	path   []string // the link's, for errors
	target []string
	inode  *ociInode // what the entry says of the file
}

func newLayer(p *plan, b *budget) *ociLayer {
	return &ociLayer{root: impliedDirectory(), plan: p, budget: b, hasher: newHasher()}
}

// read adds a tar's entries. Of an archive that goes on behind its end, that is
// left unread.
func (l *ociLayer) read(ctx context.Context, r io.Reader) error {
	archive := tar.NewReader(r)
	for n := 1; ; n++ {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		header, err := archive.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("entry %d: %w", n, err)
		}
		if err := l.add(header, archive); err != nil {
			return fmt.Errorf("entry %d, %q: %w", n, header.Name, err)
		}
	}
}

// add adds an entry. One that comes again replaces what came before, but that a
// directory keeps what it has.
func (l *ociLayer) add(h *tar.Header, content io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil // containerd ignores it, too
	}
	path, err := splitName(h.Name)
	if err != nil {
		return err
	}
	if len(path) == 0 {
		return l.addRoot(h)
	}
	parent, path, err := l.parent(path)
	if err != nil {
		return err
	}
	base := path[len(path)-1]
	deleted, opaque, ok := nydusmount.Whiteout(base)
	switch {
	case opaque:
		parent.opaque = true
		return nil
	case ok:
		return l.addWhiteout(parent, deleted)
	}
	inode, err := newInode(h)
	if err != nil {
		return err
	}
	full := strings.Join(path, "/")
	if err := l.charge(h, full); err != nil {
		return err
	}
	old := parent.children[base]
	if inode.isDir() && old != nil && old.isDir() {
		old.implied = false
		return old.setInode(inode)
	}
	node := &ociNode{inode: inode, whiteout: old != nil && old.whiteout}
	parent.put(base, node)
	switch h.Typeflag {
	case tar.TypeLink:
		return l.link(node, path, h.Linkname)
	case tar.TypeReg, tar.TypeGNUSparse:
		return l.hash(inode, full, content)
	}
	return nil
}

// addRoot takes what an entry says of the image's root directory.
func (l *ociLayer) addRoot(h *tar.Header) error {
	inode, err := newInode(h)
	switch {
	case err != nil:
		return err
	case !inode.isDir():
		return errors.New("the root is not a directory there")
	}
	l.root.implied = false
	return l.root.setInode(inode)
}

// setInode names a directory once more. It keeps the attributes that the new
// entry does not set.
func (n *ociNode) setInode(entry *ociInode) error {
	earlier := n.inode.xattrs
	n.inode = entry
	return entry.addXattrs(earlier)
}

func (l *ociLayer) addWhiteout(parent *ociNode, deleted string) error {
	if deleted == "" || deleted == "." || deleted == ".." {
		return errors.New("a whiteout of no name")
	}
	if parent.children[deleted] == nil {
		if err := l.budget.charge(nodeMetadata + int64(len(deleted))); err != nil {
			return err
		}
		parent.put(deleted, &ociNode{})
	}
	parent.children[deleted].whiteout = true
	return nil
}

// link makes node one more name of another file, for which the entry's owner,
// mode, time and attributes count from then on.
func (l *ociLayer) link(node *ociNode, path []string, target string) error {
	names, err := splitName(target)
	if err != nil {
		return fmt.Errorf("hard link to %q: %w", target, err)
	}
	link := lowerLink{node, path, names, node.inode}
	node.inode = nil
	found, err := lookup(l.root, names)
	switch {
	case err != nil:
		return fmt.Errorf("hard link to %q: %w", target, err)
	case found == nil:
		l.links = append(l.links, link)
		return nil
	}
	return link.to(found)
}

// to makes the link one to what was found.
func (l *lowerLink) to(found *ociNode) error {
	if found == nil || found.inode == nil {
		return fmt.Errorf("hard link to %q, which is not there", strings.Join(l.target, "/"))
	}
	if found.isDir() {
		return fmt.Errorf("hard link to %q, which is a directory", strings.Join(l.target, "/"))
	}
	l.node.inode = found.inode
	return found.inode.relink(l.inode)
}

// linkLower finds the files of lower layers to which the layer has hard links.
func (t *ociTree) linkLower(l *ociLayer) error {
	for _, link := range l.links {
		found, err := lookup(t.root, link.target)
		if err == nil {
			err = link.to(found)
		}
		if err != nil {
			return fmt.Errorf("%q: %w", strings.Join(link.path, "/"), err)
		}
	}
	return nil
}

// charge reckons what an entry takes, with its path as it is compared.
func (l *ociLayer) charge(h *tar.Header, path string) error {
	bytes := nodeMetadata + int64(len(path)) + int64(len(h.Linkname))
	for name, value := range h.PAXRecords {
		bytes += int64(len(name)) + int64(len(value))
	}
	return l.budget.charge(bytes)
}

// hash keeps what the content of a file hashes to, if it may be compared.
func (l *ociLayer) hash(i *ociInode, path string, content io.Reader) error {
	c := l.plan.cut(path, i.size)
	if c == nil {
		return nil
	}
	if err := l.budget.charge(min(c.count(i.size), math.MaxInt64/64) * 32); err != nil {
		return err
	}
	var err error
	if i.content, err = l.hasher.sum(content, i.size, c); err != nil {
		return fmt.Errorf("read its content: %w", err)
	}
	return nil
}

// newInode returns what an entry says of a file.
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
		i.target, i.size = h.Linkname, int64(len(h.Linkname))
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
			i.xattrs[name] = []byte(value)
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
