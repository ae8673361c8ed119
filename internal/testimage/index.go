package testimage

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
)

// IndexForm is how an index tells its Nydus manifests from the OCI manifests of the same platform.
type IndexForm int

const (
	// ByArtifactType is the form since nydusify 2.3.5: the descriptor has Nydus' artifactType.
	ByArtifactType IndexForm = iota
	// ByOSFeature is the form before: the descriptor's platform has os.features ["nydus.remoteimage.v1"].
	ByOSFeature
)

// Pair is a source image and its Nydus twin.
type Pair struct {
	OCI   v1.Image
	Nydus *Nydus
}

// Index is what `nydusify convert --merge-platform` pushes for the pairs, one of each platform: all OCI manifests, then
// all Nydus manifests. As there, every OCI image begins with an empty layer that its source lacks, and the Nydus
// manifests have a config media type that containerd does not know. As buildx does, an attestation manifest
// (platform unknown/unknown) of the first OCI image stands between them. Either half of a pair may be missing.
func Index(t testing.TB, form IndexForm, pairs ...Pair) v1.ImageIndex {
	t.Helper()
	index := &index{images: map[v1.Hash]v1.Image{}}
	index.manifest.SchemaVersion, index.manifest.MediaType = 2, types.OCIImageIndex
	attested := false
	for _, pair := range pairs {
		if pair.OCI == nil {
			continue
		}
		oci := must(t, "prepend an empty layer")(prependEmptyLayer(pair.OCI))
		desc := index.add(t, oci)
		desc.Platform = platformOf(t, oci)
		desc.Annotations = map[string]string{AnnotationSource: manifestOf(t, oci).Annotations[AnnotationSource]}
		if !attested {
			attested = true
			subject := desc.Digest
			attestation := index.add(t, must(t, "make an attestation")(attestationOf(subject)))
			attestation.Platform = &v1.Platform{OS: "unknown", Architecture: "unknown"}
			attestation.Annotations = map[string]string{
				"vnd.docker.reference.type":   "attestation-manifest",
				"vnd.docker.reference.digest": subject.String(),
			}
		}
	}
	for _, pair := range pairs {
		if pair.Nydus == nil {
			continue
		}
		img := must(t, "change the config media type")(editManifest(pair.Nydus.Image, func(m *v1.Manifest) {
			m.Config.MediaType = MediaTypeNydusConfig
		}))
		desc := index.add(t, img)
		desc.Platform = platformOf(t, img)
		switch form {
		case ByArtifactType:
			desc.ArtifactType = ArtifactTypeNydus
		case ByOSFeature:
			desc.Platform.OSFeatures = []string{OSFeatureNydus}
		}
	}
	raw, err := json.Marshal(index.manifest)
	if err != nil {
		t.Fatalf("marshal the index: %v", err)
	}
	index.raw = raw
	return index
}

// must turns an image and an error into an image or a failed test.
func must(t testing.TB, doing string) func(v1.Image, error) v1.Image {
	return func(img v1.Image, err error) v1.Image {
		t.Helper()
		if err != nil {
			t.Fatalf("make an index: %s: %v", doing, err)
		}
		return img
	}
}

func platformOf(t testing.TB, img v1.Image) *v1.Platform {
	t.Helper()
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatalf("make an index: config of an image: %v", err)
	}
	return &v1.Platform{OS: config.OS, Architecture: config.Architecture, Variant: config.Variant}
}

func manifestOf(t testing.TB, img v1.Image) *v1.Manifest {
	t.Helper()
	manifest, err := img.Manifest()
	if err != nil {
		t.Fatalf("make an index: manifest of an image: %v", err)
	}
	return manifest
}

// index is a v1.ImageIndex of images with descriptors of our own writing.
type index struct {
	manifest v1.IndexManifest
	raw      []byte
	images   map[v1.Hash]v1.Image
}

// add appends the image's descriptor and returns it, to be completed before the next add.
func (i *index) add(t testing.TB, img v1.Image) *v1.Descriptor {
	t.Helper()
	desc, err := partial.Descriptor(img)
	if err != nil {
		t.Fatalf("make an index: describe an image: %v", err)
	}
	i.images[desc.Digest] = img
	i.manifest.Manifests = append(i.manifest.Manifests,
		v1.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size})
	return &i.manifest.Manifests[len(i.manifest.Manifests)-1]
}

func (i *index) MediaType() (types.MediaType, error)       { return i.manifest.MediaType, nil }
func (i *index) RawManifest() ([]byte, error)              { return i.raw, nil }
func (i *index) Size() (int64, error)                      { return int64(len(i.raw)), nil }
func (i *index) IndexManifest() (*v1.IndexManifest, error) { return i.manifest.DeepCopy(), nil }

func (i *index) Digest() (v1.Hash, error) {
	h, _, err := v1.SHA256(bytes.NewReader(i.raw))
	return h, err
}

func (i *index) Image(h v1.Hash) (v1.Image, error) {
	if img, ok := i.images[h]; ok {
		return img, nil
	}
	return nil, fmt.Errorf("no image %s in the index", h)
}

func (i *index) ImageIndex(h v1.Hash) (v1.ImageIndex, error) {
	return nil, fmt.Errorf("no index %s in the index", h)
}

// prependEmptyLayer is what acceleration-service does to the OCI images of a merged index (PrependEmptyLayer), so that
// their config differs from the Nydus image's.
func prependEmptyLayer(img v1.Image) (v1.Image, error) {
	var packed bytes.Buffer
	gz := gzip.NewWriter(&packed)
	emptyTar := make([]byte, 1024)
	if _, err := gz.Write(emptyTar); err != nil {
		return nil, err
	}
	if err := gz.Close(); err != nil {
		return nil, err
	}
	diff, _, err := v1.SHA256(bytes.NewReader(emptyTar))
	if err != nil {
		return nil, err
	}
	source, err := img.Digest()
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	manifest, err := img.Manifest()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.RootFS.DiffIDs = append([]v1.Hash{diff}, config.RootFS.DiffIDs...)
	config.History = append([]v1.History{{CreatedBy: bootstrapHistoryBy, Comment: emptyLayerHistoryNote}},
		config.History...)
	layers := []partial.CompressedLayer{&bytesLayer{packed.Bytes(), types.OCILayer, diff}}
	annotations := []map[string]string{{annotationEmptyLayer: "true"}}
	old, err := img.Layers()
	if err != nil {
		return nil, err
	}
	for i, l := range old {
		layers = append(layers, l)
		annotations = append(annotations, manifest.Layers[i].Annotations)
	}
	return newImage(config, types.OCIConfigJSON, layers, annotations, map[string]string{AnnotationSource: source.String()})
}

// attestationOf is an attestation manifest as buildx attaches it, with a statement that says nothing.
func attestationOf(subject v1.Hash) (v1.Image, error) {
	statement := &bytesLayer{data: []byte(`{"_type":"https://in-toto.io/Statement/v0.1",` +
		`"predicateType":"https://spdx.dev/Document","subject":[{"name":"test","digest":{"sha256":"` + subject.Hex +
		`"}}],"predicate":{}}`), mediaType: "application/vnd.in-toto+json"}
	var err error
	if statement.diff, err = statement.Digest(); err != nil {
		return nil, err
	}
	config := &v1.ConfigFile{Architecture: "unknown", OS: "unknown",
		RootFS: v1.RootFS{Type: "layers", DiffIDs: []v1.Hash{statement.diff}}}
	return newImage(config, types.OCIConfigJSON, []partial.CompressedLayer{statement},
		[]map[string]string{{"in-toto.io/predicate-type": "https://spdx.dev/Document"}}, nil)
}
