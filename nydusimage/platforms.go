package nydusimage

import (
	"context"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Platforms lists the platforms of the images in an index, and in the indexes inside of
// it, each once, in their order; none where the target is a single image.
func Platforms(ctx context.Context, target string, o Options) ([]v1.Platform, error) {
	where, doc, _, err := find(ctx, target, &o)
	if err != nil || !doc.MediaType.IsIndex() {
		return nil, err
	}
	var platforms []v1.Platform
	every := func(*v1.Descriptor) bool { return true }
	err = walkIndexes(ctx, where, doc, every, func(index *v1.IndexManifest) (bool, error) {
		for _, d := range index.Manifests {
			p := platformOf(&d)
			if !d.MediaType.IsImage() || p.Architecture == "unknown" {
				continue // indexes, attestations
			}
			p.OSFeatures = nil // old converters mark Nydus images there
			if !slices.ContainsFunc(platforms, p.Equals) {
				platforms = append(platforms, p)
			}
		}
		return false, nil
	})
	return platforms, err
}
