package testimage

import (
	"encoding/json"
	"fmt"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Media types and annotations that Nydus' converters write: nydus-snapshotter pkg/converter/constant.go,
// acceleration-service pkg/driver/nydus/nydus.go.
const (
	MediaTypeNydusBlob    = "application/vnd.oci.image.layer.nydus.blob.v1"
	MediaTypeNydusConfig  = "application/vnd.nydus.image.config.v1+json"
	ArtifactTypeNydus     = "application/vnd.nydus.image.manifest.v1+json"
	OSFeatureNydus        = "nydus.remoteimage.v1"
	AnnotationBlob        = "containerd.io/snapshot/nydus-blob"
	AnnotationBootstrap   = "containerd.io/snapshot/nydus-bootstrap"
	AnnotationRef         = "containerd.io/snapshot/nydus-ref"
	AnnotationFSVersion   = "containerd.io/snapshot/nydus-fs-version"
	AnnotationSource      = "containerd.io/snapshot/nydus-source-digest"
	AnnotationReference   = "containerd.io/snapshot/nydus-source-reference"
	AnnotationBuilder     = "containerd.io/snapshot/nydus-builder-version"
	annotationEmptyLayer  = "containerd.io/snapshot/nydus-empty-layer"
	bootstrapHistoryBy    = "Nydus Converter"
	bootstrapHistoryNote  = "Nydus Bootstrap Layer"
	emptyLayerHistoryNote = "Nydus Empty Layer"
)

// converterVersion is the release of nydusify whose manifests these are; it takes whatever nydus-image there is.
const converterVersion = "v2.4.4"

// nydusImage makes the manifest and config around the converted layers.
func nydusImage(n *Nydus, bootstrap *storedLayer, source *v1.ConfigFile, sourceDigest v1.Hash) (v1.Image, error) {
	config := source.DeepCopy()
	config.RootFS.DiffIDs = nil
	var layers []partial.CompressedLayer
	var layerAnnotations []map[string]string
	for _, l := range n.Blobs {
		layers = append(layers, &storedLayer{
			Path: l.Path, Type: MediaTypeNydusBlob, Hash: l.Digest, Diff: l.Digest, Length: l.Size,
		})
		annotations := map[string]string{AnnotationBlob: "true"}
		if l.Ref != (v1.Hash{}) {
			annotations[AnnotationRef] = l.Ref.String()
		}
		layerAnnotations = append(layerAnnotations, annotations)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, l.Digest)
	}
	layers = append(layers, bootstrap)
	layerAnnotations = append(layerAnnotations, map[string]string{
		AnnotationBootstrap: "true",
		AnnotationFSVersion: n.Options.FSVersion,
	})
	config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, bootstrap.Diff)
	config.History = append(slices.Clone(config.History), v1.History{
		Created:   source.Created,
		CreatedBy: bootstrapHistoryBy,
		Comment:   bootstrapHistoryNote,
	})
	img, err := newImage(config, types.OCIConfigJSON, layers, layerAnnotations, map[string]string{
		AnnotationSource:    sourceDigest.String(),
		AnnotationReference: n.Options.SourceReference,
		AnnotationFSVersion: n.Options.FSVersion,
		AnnotationBuilder:   converterVersion,
	})
	if err != nil || !n.Options.Referrer {
		return img, err
	}
	subject, err := partial.Descriptor(n.Source)
	if err != nil {
		return nil, fmt.Errorf("describe the source: %w", err)
	}
	return editManifest(img, func(m *v1.Manifest) {
		m.Subject = &v1.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size}
	})
}

// editManifest returns the image with an edited manifest; config and layers stay.
func editManifest(img v1.Image, edit func(*v1.Manifest)) (v1.Image, error) {
	manifest, err := img.Manifest()
	if err != nil {
		return nil, err
	}
	manifest = manifest.DeepCopy()
	edit(manifest)
	raw, err := json.Marshal(manifest)
	if err != nil {
		return nil, err
	}
	config, err := img.RawConfigFile()
	if err != nil {
		return nil, err
	}
	layers, err := img.Layers()
	if err != nil {
		return nil, err
	}
	out := &image{mediaType: manifest.MediaType, manifest: raw, config: config,
		layers: map[v1.Hash]partial.CompressedLayer{}}
	for _, l := range layers {
		digest, err := l.Digest()
		if err != nil {
			return nil, err
		}
		out.layers[digest] = l
	}
	return partial.CompressedToImage(out)
}
