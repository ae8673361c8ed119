package nydusimage

import (
	"encoding/json"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// What tells a Nydus manifest in an index.
const (
	artifactTypeNydus = "application/vnd.nydus.image.manifest.v1+json"
	featureNydus      = "nydus.remoteimage.v1" // in os.features, before Nydus v2.3.5
)

// artifactTypeModel is that of a model artifact (CNCF ModelPack): its layers are
// the archives of a model, of which nydusify's bootstrap shows the files.
const artifactTypeModel = "application/vnd.cncf.model.manifest.v1+json"

// mediaType is what a registry declares a document to be. Where that is none of
// the types that are read (static file servers know only JSON) it is what the
// document says of itself.
func mediaType(declared types.MediaType, raw []byte) types.MediaType {
	if declared.IsImage() || declared.IsIndex() || declared.IsSchema1() {
		return declared
	}
	var document struct {
		MediaType types.MediaType   `json:"mediaType"`
		Manifests []json.RawMessage `json:"manifests"`
		Layers    []json.RawMessage `json:"layers"`
	}
	if countValues(raw) > maxValues || json.Unmarshal(raw, &document) != nil {
		return declared
	}
	switch {
	case document.MediaType.IsImage(), document.MediaType.IsIndex():
		return document.MediaType
	case document.MediaType == "" && document.Manifests != nil && document.Layers == nil:
		return types.OCIImageIndex
	case document.MediaType == "" && document.Layers != nil && document.Manifests == nil:
		return types.OCIManifestSchema1
	}
	return declared
}

// parseManifest decodes a manifest, after it is clear that it is one.
func parseManifest(doc *document) (*v1.Manifest, error) {
	if !doc.MediaType.IsImage() {
		return nil, fmt.Errorf("%s has media type %q, which is no image manifest: %w", doc.Digest, doc.MediaType, ErrInvalid)
	}
	manifest, err := parse(doc.raw, v1.ParseManifest)
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", doc.Digest, err)
	}
	return manifest, nil
}

// notNydus returns "" for a Nydus manifest, else what it lacks.
func notNydus(manifest *v1.Manifest) string {
	for _, layer := range manifest.Layers {
		if isBootstrap(layer) || isData(layer) {
			return ""
		}
	}
	return "no layer of its manifest is marked as a Nydus bootstrap"
}

func isBootstrap(layer v1.Descriptor) bool {
	_, ok := layer.Annotations[AnnotationBootstrap]
	return ok
}

func isData(layer v1.Descriptor) bool {
	_, ok := layer.Annotations[AnnotationBlob]
	return ok || layer.MediaType == MediaTypeBlob
}

// reference returns the digest of the OCI layer to which a layer of zran refers;
// zero for others.
func reference(layer v1.Descriptor) (v1.Hash, error) {
	ref, ok := layer.Annotations[AnnotationRef]
	if !ok {
		return v1.Hash{}, nil
	}
	digest, err := v1.NewHash(ref)
	if err != nil {
		return v1.Hash{}, fmt.Errorf("annotation %s: %w: %w", AnnotationRef, ErrInvalid, err)
	}
	if digest.Algorithm != "sha256" {
		return v1.Hash{}, fmt.Errorf("it refers to %s, only sha256 is read: %w", digest, ErrInvalid)
	}
	return digest, nil
}

// splitLayers returns the data layers and the bootstrap layer, which comes last.
func splitLayers(manifest *v1.Manifest) (data []v1.Descriptor, bootstrap v1.Descriptor, err error) {
	last := len(manifest.Layers) - 1
	for n, layer := range manifest.Layers {
		switch {
		case isBootstrap(layer) != (n == last):
			return nil, bootstrap, fmt.Errorf("layer %d of %d: the last layer, and no other, must be the bootstrap: %w", n+1, last+1, ErrInvalid)
		case n != last && !isData(layer) && manifest.ArtifactType != artifactTypeModel:
			return nil, bootstrap, fmt.Errorf("layer %d of %d has media type %q and is not marked as a Nydus blob: %w", n+1, last+1, layer.MediaType, ErrInvalid)
		case layer.Size < 0:
			return nil, bootstrap, fmt.Errorf("layer %d of %d has %d bytes: %w", n+1, last+1, layer.Size, ErrInvalid)
		case layer.Digest.Algorithm != "sha256":
			return nil, bootstrap, fmt.Errorf("layer %d of %d has digest %s, only sha256 is read: %w", n+1, last+1, layer.Digest, ErrInvalid)
		}
	}
	return manifest.Layers[:last], manifest.Layers[last], nil
}
