package consistency

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

const (
	// nodeMetadata is what a name and its file are reckoned at, in bytes of memory,
	// without what has a length of its own.
	nodeMetadata = 512
	// memoryShare is how many bytes of memory count as one of metadata, whose bound is
	// meant for a bootstrap: entries that were read take some twice of what they take there.
	memoryShare = 2
)

// A budget is what layers that are read at the same time may take. Data is not kept, so
// that a layer that decompresses to much costs time only.
type budget struct{ metadata *rafs.Budget }

// newBudget returns the budget within a bound on metadata.
func newBudget(metadata int64) *budget {
	return &budget{rafs.NewBudget(rafs.BoundMetadata, metadata)}
}

// charge takes bytes of memory from the budget.
func (b *budget) charge(bytes int64) error {
	return b.metadata.Take("the entries of an OCI image's layers", uint64((bytes+memoryShare-1)/memoryShare))
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

func newLayer(p *plan, b *budget) *ociLayer {
	return &ociLayer{root: impliedDirectory(), plan: p, budget: b, hasher: newHasher()}
}

// read adds a tar's entries. Of an archive that goes on behind its end, that is
// left unread.
func (l *ociLayer) read(ctx context.Context, r io.Reader) error {
	archive := tar.NewReader(r)
	content := &contextReader{ctx, archive}
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
		if err := l.add(header, content); err != nil {
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
	if err := l.charge(h, "."); err != nil {
		return err
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
