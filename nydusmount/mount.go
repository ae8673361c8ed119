// Package nydusmount gives a Nydus image as opened trees: the merged tree of
// the whole image, and the tree of each layer as its blob carries it.
//
// [Native] opens the image in this process. No tree is read ahead; a file's
// bytes are fetched when it is read, or when [View.Data] is told to load them.
package nydusmount

import (
	"context"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/blob"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// A View is a tree and the data of its files.
type View struct {
	*rafs.Tree
	Data *blob.TreeReader
}

// Open opens a file of the tree under the name that its errors use. It costs
// nothing until the file is read.
func (v *View) Open(name string, inode rafs.Inode) *rafs.File {
	return inode.Open(name, v.Data)
}

// A Mount is an image with its trees open.
type Mount struct {
	Image *nydusimage.Image
	// Merged is the tree of the whole image, vouched for by the manifest.
	Merged *View
	// Layers are the trees of the image's layers, bottom first. The manifest
	// does not vouch for them. nil stands for a layer whose blob carries none.
	Layers []*View

	reader *blob.Reader
}

// Stats says what reading the image has cost so far.
func (m *Mount) Stats() blob.Stats { return m.reader.Stats() }

// LayerTrees says whether all layers carry a tree of their own.
func (m *Mount) LayerTrees() bool {
	for _, l := range m.Layers {
		if l == nil {
			return false
		}
	}
	return true
}

// view opens a tree's data; self is the ID of the blob that carries the tree.
func (m *Mount) view(ctx context.Context, tree *rafs.Tree, self string) *View {
	return &View{Tree: tree, Data: m.reader.Tree(ctx, tree.Blobs(), self)}
}
