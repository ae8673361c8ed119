package nydusmount

import (
	"slices"

	"golang.org/x/mod/semver"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
)

// orderedSince is the first nydusify that lists layers in their order.
const orderedSince = "v2.4.1"

// CreatedBy returns the commands that made the layers, one a layer; "" where the
// image's history does not tell.
func (m *Mount) CreatedBy() []string {
	layers := len(m.ImageLayers())
	if m.Ordered {
		if commands := nydusimage.CreatedBy(m.Image.Config.History, layers); commands != nil {
			return commands
		}
	}
	return make([]string, layers)
}

// InOrder says whether a manifest is known to list the image's layers as they
// were put onto each other, bottom first.
//
// nydus-snapshotter before v0.15.12, which is in nydusify before v2.4.1, lists the
// blobs as the merged bootstrap does (MergeLayers in pkg/converter): without the
// layers that brought no data and, by nydus-image since v2.3.1, in the order in
// which a walk by names first meets their data, so that the layer of /app comes
// before that of /bin and /etc (builder/src/merge.rs).
// Nydusify's optimize and commit go on from whatever image they are given.
func InOrder(image *nydusimage.Image, b *nydusimage.Bootstrap) bool {
	layers := image.Layers
	refers := func(l nydusimage.Layer) bool { return l.Ref.Hex != "" }
	switch {
	case len(layers) < 2:
		return true
	case committedWithMounts(image) > 0: // see OfLayers
		return false
	case len(b.Metas) > 0: // since nydus-snapshotter v0.15.11, with which no nydusify was released
		return true
	case semver.Compare(image.Manifest.Annotations[nydusimage.AnnotationBuilder], orderedSince) >= 0:
		return true
	case !slices.ContainsFunc(layers, func(l nydusimage.Layer) bool { return !refers(l) }):
		return true // each blob belongs to a layer of the source
	}
	bootstrap := image.BootstrapLayer.Annotations
	if bootstrap[nydusimage.AnnotationPrefetchBlob] != "" || bootstrap[nydusimage.AnnotationCommitBlobs] != "" {
		return false
	}
	blobs := b.Tree.Blobs()
	for i := range min(len(layers), len(blobs)) {
		if layers[i].BlobID() != blobs[i].ID {
			return true // it was not taken from the bootstrap
		}
	}
	return len(layers) != len(blobs)
}
