package nydusmount

import (
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// elsewhere says why the layers of an image's manifest do not hold its data; ""
// if they do. Images whose blobs were stored in oss, s3 or a folder have a
// manifest of the bootstrap alone; model artifacts name a backend in their
// bootstrap layer.
func elsewhere(image *nydusimage.Image, b *nydusimage.Bootstrap) string {
	switch {
	case b.Backend != nil:
		return "the bootstrap layer brings a backend.json"
	case external(b) != nil:
		return "blob " + external(b).ID + " is one of an external backend"
	case len(image.Layers) == 0 && len(b.Tree.Blobs()) > 0:
		return "the manifest lists no data blobs"
	}
	return ""
}

// external returns the first blob that lies in an external backend, nil if there
// is none.
func external(b *nydusimage.Bootstrap) *rafs.Blob {
	blobs := b.Tree.Blobs()
	for i := range blobs {
		if blobs[i].Features&rafs.BlobExternal != 0 {
			return &blobs[i]
		}
	}
	return nil
}
