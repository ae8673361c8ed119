package nydusmount

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"

	"golang.org/x/sync/errgroup"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/blob"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
)

// parallelWhole is how many blobs are read whole at once: each is hashed by one
// goroutine.
const parallelWhole = 4

// WholeBlobs says, with true, that each blob is read whole before the image is used,
// and compared with its digest in the manifest: [Mount.Verified] is [VerifiedWhole]
// then. So the manifest vouches for the tails of the blobs, too: for the trees of
// the layers and for digests of chunks that only the blobs carry. Of a layer whose
// data lies in an OCI layer, that is read, too, and compared with the digest by which
// the manifest's annotation names it.
func WholeBlobs(whole bool) NativeOption {
	return func(o *nativeOptions) { o.whole = whole }
}

// verifyWhole reads the blobs of tails that were read, and vouches for these tails.
func verifyWhole(ctx context.Context, image *nydusimage.Image, tails []*Tail, sources map[string]blob.Source) (blobs, bytes int64, err error) {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelWhole)
	count := func(size int64) { blobs, bytes = blobs+1, bytes+size }
	first := make(map[string]*Tail)   // by the blob's digest
	referred := make(map[string]bool) // OCI layers, by their digests
	for i, tail := range tails {
		if tail == nil {
			continue
		}
		layer := &image.Layers[i]
		named := func(err error) error {
			return fmt.Errorf("layer %d of %d, blob %s: %w", i+1, len(tails), layer.Digest, err)
		}
		before := first[layer.Digest.Hex]
		switch first[layer.Digest.Hex] = tail; {
		case before != nil && before.Start == tail.Start && before.Sum == tail.Sum:
			// Layers with the same blob have the same tail.
		case tail.whole():
			count(layer.Source.Size())
		default:
			count(layer.Source.Size())
			group.Go(func() error {
				if err := verifyBlob(ctx, layer.Source, layer.Digest.String(), tail); err != nil {
					return named(err)
				}
				image.Traffic.NoteMetadata(layer.Source.Size())
				return nil
			})
		}
		data := sources[layer.BlobID()]
		if data == nil || !layer.Refers() || referred[layer.Ref.String()] {
			continue
		}
		referred[layer.Ref.String()] = true
		count(data.Size())
		group.Go(func() error {
			if err := verifyBlob(ctx, data, layer.Ref.String(), nil); err != nil {
				return named(fmt.Errorf("its data, the OCI layer %s: %w", layer.Ref, err))
			}
			image.Traffic.NoteMetadata(data.Size())
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return 0, 0, err
	}
	for _, tail := range tails {
		if tail != nil && tail.Sum != [sha256.Size]byte{} {
			tail.Vouched, tail.TreeVouched = true, true
		}
	}
	return blobs, bytes, nil
}

// whole says whether the tail is all of the blob, which was compared with its
// digest when it was read.
func (t *Tail) whole() bool { return t.Start == 0 && t.Sum != [sha256.Size]byte{} }

// verifyBlob reads a blob and compares it with its digest, and its tail, if not nil,
// with what was read of it before.
func verifyBlob(ctx context.Context, source blob.Source, digest string, tail *Tail) error {
	if tail == nil || tail.Sum == [sha256.Size]byte{} {
		return blob.Prove(ctx, source, digest, 0, io.Discard)
	}
	end := sha256.New()
	if err := blob.Prove(ctx, source, digest, tail.Start, end); err != nil {
		return err
	}
	if got := [sha256.Size]byte(end.Sum(nil)); got != tail.Sum {
		return fmt.Errorf("its tail hashes to %x, as it was read before to %x: %w", got, tail.Sum, blob.ErrDigest)
	}
	return nil
}
