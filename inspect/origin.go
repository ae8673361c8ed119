package inspect

import (
	"context"
	"fmt"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// An Origin is the layer that brought a file.
type Origin struct {
	Layer     int    `json:"layer"`  // counted from 1, bottom first
	Digest    string `json:"digest"` // of its blob
	CreatedBy string `json:"created_by,omitempty"`
	// By says what tells it: "blob", where the file's data lies in that layer's
	// blob, or "tree", where the tree that the blob carries has the path. The
	// manifest does not vouch for the latter.
	By string `json:"by"`
}

// The values of Origin.By.
const (
	byBlob = "blob"
	byTree = "tree"
)

// origin finds the layer that brought what the image shows under a path; nil
// where nothing says that. Data that lies in one layer's blob says it, and costs
// nothing. Otherwise, for directories, links and empty files, and for blobs with
// the data of other images, the trees of the layers are asked, the top first.
func (s *Session) origin(ctx context.Context, name string, inode rafs.Inode, chunks []rafs.Chunk) (*Origin, error) {
	if layer := s.layerOfData(chunks); layer > 0 {
		return s.newOrigin(layer, byBlob), nil
	}
	for layer := len(s.image.Layers); layer > 0; layer-- {
		tail, err := s.tail(ctx, layer)
		if err != nil {
			return nil, err
		}
		if tail.Tree == nil {
			return nil, nil // it may be this one
		}
		below, err := tail.Tree.Lookup(name)
		if err != nil {
			continue // the layer has no such path
		}
		if below.Mode != inode.Mode || below.UID != inode.UID || below.GID != inode.GID || !inode.IsDir() && below.Size != inode.Size {
			return nil, nil // the image shows something else: that tree is not to be believed
		}
		return s.newOrigin(layer, byTree), nil
	}
	return nil, nil
}

// layerOfData returns the layer in whose blob all chunks lie, 0 where that says
// nothing.
func (s *Session) layerOfData(chunks []rafs.Chunk) int {
	if len(chunks) == 0 {
		return 0
	}
	b := &s.tree.Blobs()[chunks[0].Blob]
	if b.Features&(rafs.BlobChunkDict|rafs.BlobPrefetchSeparated) != 0 {
		return 0
	}
	for i := range chunks {
		if chunks[i].Blob != b.Index {
			return 0
		}
	}
	return s.layerOf(b.ID)
}

func (s *Session) newOrigin(layer int, by string) *Origin {
	l := &s.image.Layers[layer-1]
	return &Origin{Layer: layer, Digest: l.Digest.String(), CreatedBy: s.createdBy(layer), By: by}
}

// createdBy returns the command that made a layer, "" where the manifest's order
// of layers is not known to be that of the history.
func (s *Session) createdBy(layer int) string {
	if !nydusmount.InOrder(s.image, s.bootstrap) {
		return ""
	}
	return s.image.Layers[layer-1].CreatedBy
}

func (o *Origin) text() string {
	text := fmt.Sprintf("%d of the image (%s, by its %s)", o.Layer, o.Digest, o.By)
	if o.CreatedBy != "" {
		text += ": " + Escape(o.CreatedBy)
	}
	return text
}
