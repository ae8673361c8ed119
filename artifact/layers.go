package artifact

import (
	"crypto/sha256"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/aquasecurity/trivy/pkg/fanal/image"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

const (
	// maxBlobLayers is how many blobs may count as layers. RAFS v6 has 254 at most.
	maxBlobLayers = 1024
	// maxBlobSize bounds what a blob table may say of a blob's size, in bytes, so
	// that sums stay sums.
	maxBlobSize = 1 << 40
)

// A layer is one of the image's, as reports show it.
type layer struct {
	blobID    string // "" for one without data
	digest    string
	diffID    string
	createdBy string
	size      int64 // of the stored blob, bytes
	base      bool  // of the base image: not scanned for secrets
}

// layersOf lists an image's layers, bottom first: those of the manifest. Where
// the manifest lists none, because the data lies in a backend, each blob of the
// merged tree counts as one. Nothing says then in which order they were put onto
// each other (the blob table has its own), nor what made them: converters leave
// neither diff IDs nor history. An image without any data has one layer, that of
// the bootstrap.
func layersOf(m *nydusmount.Mount) ([]layer, error) {
	var layers []layer
	bases, commands := baseLayers(m), m.CreatedBy()
	for i, l := range m.ImageLayers() {
		layers = append(layers, layer{
			blobID: l.BlobID(), digest: l.Digest.String(), diffID: l.DiffID, createdBy: commands[i], size: l.Size, base: bases[i],
		})
	}
	if len(layers) > 0 {
		return layers, nil
	}
	if n := len(m.Merged.Blobs()); n > maxBlobLayers {
		return nil, fmt.Errorf("the bootstrap has %d blobs, at most %d are scanned: %w", n, maxBlobLayers, rafs.ErrUnsupported)
	}
	for _, b := range m.Merged.Blobs() {
		id := blobDigest(b)
		layers = append(layers, layer{blobID: b.ID, digest: id, diffID: id, size: int64(min(b.CompressedSize, maxBlobSize))})
	}
	if len(layers) > 0 {
		return layers, nil
	}
	id := m.Image.BootstrapLayer.Digest.String()
	return []layer{{digest: id, diffID: id}}, nil
}

// blobDigest is a blob's ID as a digest, which it is but for images that were
// made by hand: of these it is the digest of the ID, since Trivy takes what names a
// layer apart as a digest.
func blobDigest(b rafs.Blob) string {
	if digest, err := v1.NewHash("sha256:" + b.ID); err == nil {
		return digest.String()
	}
	return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(b.ID)))
}

func diffIDs(layers []layer) []string {
	ids := make([]string, len(layers))
	for i := range layers {
		ids[i] = layers[i].diffID
	}
	return ids
}

// baseLayers guesses, as Trivy does from the history, which layers of the
// manifest come from a base image. No layer does where the history does not map
// to the layers: to take one of the application for one of the base would hide its
// secrets. The history may be shorter, since nydusify commit adds layers on top of
// those that it tells of.
func baseLayers(m *nydusmount.Mount) []bool {
	bases := make([]bool, len(m.ImageLayers()))
	history := m.Image.Config.History
	if !m.Ordered || nydusimage.HistoryLayers(history) > len(bases) {
		return bases
	}
	last := image.GuessBaseImageIndex(history)
	layer := 0
	for _, h := range history[:min(last+1, len(history))] {
		if !h.EmptyLayer {
			bases[layer] = true
			layer++
		}
	}
	return bases
}
