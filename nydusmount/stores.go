package nydusmount

import (
	"context"
	"strings"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// Stores says which layers of a manifest are none of the image: blobs that hold
// data of files which others brought. There are those of a chunk dictionary, an
// image from which a conversion took the chunks that it has, and the blob to which
// nydusify optimize copies the files to be prefetched.
func Stores(image *nydusimage.Image, merged *rafs.Tree, tails []*Tail) []bool {
	foreign := map[string]bool{image.BootstrapLayer.Annotations[nydusimage.AnnotationPrefetchBlob]: true}
	for _, b := range merged.Blobs() {
		if b.Features&rafs.BlobPrefetchSeparated != 0 {
			foreign[b.ID] = true
		}
	}
	for i, tail := range tails {
		if tail == nil || tail.Tree == nil {
			continue
		}
		own := image.Layers[i].BlobID()
		for _, b := range tail.Tree.Blobs() {
			// Its own entry has a placeholder for the ID.
			if b.Features&rafs.BlobInlinedMeta == 0 && b.ID != own {
				foreign[b.ID] = true
			}
		}
	}
	out := make([]bool, len(image.Layers))
	for i := range image.Layers {
		out[i] = foreign[image.Layers[i].BlobID()]
	}
	return out
}

// ImageLayers are the image's layers, one for each of m.Layers: those of the
// manifest or, after OfLayers, fewer.
func (m *Mount) ImageLayers() []nydusimage.Layer {
	if m.layers != nil {
		return m.layers
	}
	return m.Image.Layers
}

// OfLayers returns the mount without those layers of the manifest that are none
// of the image (see [Stores]), and with those that nydusify commit added in the order
// in which it put them onto each other, if the trees of these layers give the merged
// one: only that shows it. Otherwise it returns m. The files of the result are m's.
func (m *Mount) OfLayers(ctx context.Context) (*Mount, error) {
	if m.layers != nil {
		return m, nil // it is the result
	}
	if m.stores == nil {
		return m, nil
	}
	var layers []nydusimage.Layer
	var views []*View
	for _, i := range MergeOrder(m.Image) {
		if !m.stores[i] {
			layers = append(layers, m.Image.Layers[i])
			views = append(views, m.Layers[i])
		}
	}
	if len(views) == 0 || len(views) == len(m.Layers) && committedWithMounts(m.Image) == 0 {
		return m, nil
	}
	rest := *m
	rest.layers, rest.Layers, rest.stores = layers, views, nil
	if !rest.LayerTrees() {
		return m, nil
	}
	overlay, err := rest.Overlay(ctx)
	if err != nil {
		return nil, err
	}
	contradiction, err := overlay.Compare(ctx, m.Merged.Tree)
	if err != nil || contradiction != nil {
		return m, err
	}
	return &rest, nil
}

// committedWithMounts returns how many of the manifest's last layers nydusify commit
// --with-path made; 0 where it did not, or with a single layer. It lists the blobs of
// mounts before that of what the container wrote, and merges them after it
// (pushManifest and mergeBootstrap in contrib/nydusify/pkg/committer).
func committedWithMounts(image *nydusimage.Image) int {
	blobs := strings.Split(image.BootstrapLayer.Annotations[nydusimage.AnnotationCommitBlobs], ",")
	last := len(image.Layers) - len(blobs)
	if len(blobs) < 2 || last < 0 {
		return 0
	}
	for i, blob := range blobs {
		if image.Layers[last+i].Digest.String() != blob {
			return 0
		}
	}
	return len(blobs)
}

// MergeOrder returns the layers of the manifest, by index, in the order in which they
// were put onto each other as far as the manifest tells: its own, but for what
// nydusify commit added (see committedWithMounts).
func MergeOrder(image *nydusimage.Image) []int {
	order := allLayers(image)
	if n := committedWithMounts(image); n > 0 {
		added := order[len(order)-n:]
		upper := added[n-1]
		copy(added[1:], added)
		added[0] = upper
	}
	return order
}
