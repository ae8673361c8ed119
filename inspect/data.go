package inspect

import (
	"context"
	"fmt"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/blob"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// opened is the data of some layers.
type opened struct {
	mount *nydusmount.Mount
	end   context.CancelFunc // ends its reads
}

// blobSet holds indexes of a tree's blob table.
type blobSet map[int]bool

// add adds the blobs in which the bytes from to to of a file lie.
func (b blobSet) add(chunks []rafs.Chunk, from, to int64) {
	for i := range chunks {
		c := &chunks[i]
		if c.FileOffset < to && c.FileOffset+int64(c.UncompressedSize) > from {
			b[c.Blob] = true
		}
	}
}

// view opens the data of a layer's tree, or with 0 of that of the whole image, as
// far as it lies in the given blobs of the tree: nothing is read of others. It is
// nil for no blobs.
func (s *Session) view(ctx context.Context, layer int, tree *rafs.Tree, blobs blobSet) (*nydusmount.View, error) {
	if len(blobs) == 0 {
		return nil, nil
	}
	if s.image == nil {
		return nil, ErrNoImage
	}
	layers := make([]bool, len(s.image.Layers))
	if layer > 0 {
		layers[layer-1] = true
	}
	for index := range blobs {
		b := tree.Blobs()[index]
		if layer > 0 && blob.IsSelf(b) {
			continue
		}
		at := s.layerOf(b.ID)
		if at == 0 {
			return nil, fmt.Errorf("the data lies in blob %s, which is no layer of the manifest: %w", b.ID, nydusimage.ErrInvalid)
		}
		layers[at-1] = true
	}
	mount, err := s.open(ctx, layers)
	if err != nil {
		return nil, err
	}
	if layer > 0 {
		return mount.Layers[layer-1], nil
	}
	return mount.Merged, nil
}

// open opens the data of some layers, once.
func (s *Session) open(ctx context.Context, layers []bool) (*nydusmount.Mount, error) {
	name := fmt.Sprint(layers)
	if m := s.mounts[name]; m != nil {
		return m.mount, nil
	}
	var wanted []int
	for i, want := range layers {
		if want {
			wanted = append(wanted, i)
		}
	}
	// The mount's reads end with its context, which outlives this command.
	reading, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	mount, err := nydusmount.NativePart(reading, s.image, s.bootstrap, wanted, nydusmount.AllowUnverified(s.AllowUnverified))
	if err == nil && !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		cancel(err)
		return nil, err
	}
	if mount.Verified != nydusmount.Verified && s.Warn != nil {
		s.Warn(string(mount.Verified))
	}
	if s.mounts == nil {
		s.mounts = make(map[string]*opened)
	}
	s.mounts[name] = &opened{mount, func() { cancel(context.Canceled) }}
	return mount, nil
}
