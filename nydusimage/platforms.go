package nydusimage

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Platforms lists the platforms of the images in an index, each once, in the
// index's order; none where the target is a single image.
func Platforms(ctx context.Context, target string, o Options) ([]v1.Platform, error) {
	_, doc, _, err := find(ctx, target, &o)
	if err != nil || !doc.MediaType.IsIndex() {
		return nil, err
	}
	index, err := v1.ParseIndexManifest(bytes.NewReader(doc.raw))
	if err != nil {
		return nil, fmt.Errorf("index %s: %w: %w", doc.Digest, ErrInvalid, err)
	}
	var platforms []v1.Platform
	for _, d := range index.Manifests {
		p := platformOf(&d)
		if !d.MediaType.IsImage() || p.Architecture == "unknown" {
			continue // nested indexes, attestations
		}
		p.OSFeatures = nil // old converters mark Nydus images there
		if !slices.ContainsFunc(platforms, p.Equals) {
			platforms = append(platforms, p)
		}
	}
	return platforms, nil
}
