package consistency

import (
	"fmt"
	"io"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// Tree is a [Filesystem] over a Nydus bootstrap. data gives the content of
// files; without it, files are known by what their chunks hash to.
func Tree(tree *rafs.Tree, data rafs.ChunkReader) Filesystem {
	return treeFilesystem{tree, data}
}

type treeFilesystem struct {
	tree *rafs.Tree
	data rafs.ChunkReader
}

func (t treeFilesystem) Walk(fn func(Node) error) error {
	return t.tree.Walk(func(path string, i rafs.Inode) error {
		xattrs, err := i.Xattrs()
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		n := Node{
			Path: path, Mode: i.Mode, UID: i.UID, GID: i.GID, Size: i.Size, MTime: i.Modified(),
			Rdev:   uint64(i.Rdev>>8&0xfff)<<32 | uint64(i.Rdev&0xff|i.Rdev>>12&0xfff00),
			Xattrs: xattrs, Links: uint64(i.Links), Inode: i.Number,
		}
		if i.IsSymlink() {
			if n.Target, err = i.Readlink(); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
		}
		if i.IsRegular() {
			n.metadata = &treeContent{i, t.tree.Blobs()}
			if t.data != nil {
				n.Open = func() (io.ReadCloser, error) { return i.Open(path, t.data), nil }
			}
		}
		return fn(n.normalize())
	})
}
