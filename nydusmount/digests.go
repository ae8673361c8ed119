package nydusmount

import (
	"errors"
	"fmt"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/blob"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// ErrUnvouched is wrapped by the refusal of an image of which nothing says, as far
// as the manifest vouches, what its chunks hash to. See [AllowUnverified].
var ErrUnvouched = errors.New("its chunks cannot be verified")

// A chunkSupplier completes the chunks of a tree whose bootstrap has no table of
// them, by what the blobs carry.
type chunkSupplier struct {
	tails []*Tail // by index in the tree's blob table; nil where nothing is known
}

// WithChunks returns a tree whose bootstrap has no chunk table with the tables of the
// blobs in its place: [Tail.Meta] and [Tail.Digests] of tails, one a layer of the
// image, nil where a tail was not read. own is the tail of the blob in which the
// bootstrap was found, nil for a merged one. Other trees are returned as they are.
func WithChunks(image *nydusimage.Image, tree *rafs.Tree, tails []*Tail, own *Tail) *rafs.Tree {
	if !tree.LacksChunkTable() {
		return tree
	}
	s := chunkSupplier{make([]*Tail, len(tree.Blobs()))}
	byID := tailsByID(image, tails)
	for i, b := range tree.Blobs() {
		if s.tails[i] = byID[b.ID]; own != nil && blob.IsSelf(b) {
			s.tails[i] = own
		}
	}
	return tree.WithChunks(s.complete)
}

func (s *chunkSupplier) complete(c *rafs.Chunk) error {
	t := s.tails[c.Blob]
	if t == nil || t.Meta == nil || t.Digests == nil {
		return nil
	}
	return t.Meta.Complete(c, t.Digests)
}

func tailsByID(image *nydusimage.Image, tails []*Tail) map[string]*Tail {
	byID := make(map[string]*Tail, len(tails))
	for i, tail := range tails {
		if tail != nil {
			byID[image.Layers[i].BlobID()] = tail
		}
	}
	return byID
}

// UnvouchedBlobs counts the blobs for whose chunks' digests the manifest does not vouch:
// none of an image whose bootstrap has a chunk table. tails are as for [WithChunks].
// A blob without any digests is an error that wraps [rafs.ErrUnsupported]; blobs
// whose tails are not there are left out.
func UnvouchedBlobs(image *nydusimage.Image, merged *rafs.Tree, tails []*Tail) (count int, err error) {
	if !merged.LacksChunkTable() {
		return 0, nil
	}
	byID := tailsByID(image, tails)
	for _, b := range merged.Blobs() {
		switch t := byID[b.ID]; {
		case t == nil || b.ChunkCount == 0:
		case t.Meta == nil || t.Digests == nil:
			return 0, fmt.Errorf("the bootstrap has no chunk table, and blob %s has no digests of its chunks (blob.digest): %w: %w",
				b.ID, ErrNoDigests, rafs.ErrUnsupported)
		case !t.Vouched:
			count++
		}
	}
	return count, nil
}

// ErrNoDigests is wrapped by the refusal of an image that has no digests of chunks at
// all, which nothing allows.
var ErrNoDigests = errors.New("there is nothing to verify them by")

// unvouchedReason says what is wrong with an image for which UnvouchedBlobs counts blobs.
func unvouchedReason(count, all int) string {
	return fmt.Sprintf("the bootstrap has no digests of the chunks, and the manifest does not vouch for those that %d of %d blobs carry "+
		"(no digest of their table of contents is set)", count, all)
}
