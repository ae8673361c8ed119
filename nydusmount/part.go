package nydusmount

import (
	"context"
	"slices"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
)

// NativePart opens an image as [Native] does, with its bootstrap, for the data of
// some layers alone, given by their indexes: the tails of no other blobs are read.
// Files whose data lies elsewhere cannot be read, and the views of the other
// layers are nil.
func NativePart(ctx context.Context, image *nydusimage.Image, bootstrap *nydusimage.Bootstrap, layers []int, options ...NativeOption) (*Mount, error) {
	wanted := slices.Compact(slices.Sorted(slices.Values(layers)))
	return native(ctx, image, bootstrap, wanted, options)
}

func allLayers(image *nydusimage.Image) []int {
	all := make([]int, len(image.Layers))
	for i := range all {
		all[i] = i
	}
	return all
}
