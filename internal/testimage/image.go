package testimage

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// image is a v1.Image whose every byte is given: go-containerregistry's mutate would write media types, annotations
// and diff IDs of its own.
type image struct {
	mediaType types.MediaType
	manifest  []byte
	config    []byte
	layers    map[v1.Hash]partial.CompressedLayer
}

// newImage puts an image together from its config and layers. annotations[i] are those of layer i's descriptor.
func newImage(config *v1.ConfigFile, configType types.MediaType, layers []partial.CompressedLayer,
	layerAnnotations []map[string]string, annotations map[string]string) (v1.Image, error) {
	rawConfig, err := json.Marshal(config)
	if err != nil {
		return nil, fmt.Errorf("marshal the image config: %w", err)
	}
	configDigest, configSize, err := v1.SHA256(bytes.NewReader(rawConfig))
	if err != nil {
		return nil, err
	}
	img := &image{
		mediaType: types.OCIManifestSchema1,
		config:    rawConfig,
		layers:    map[v1.Hash]partial.CompressedLayer{},
	}
	manifest := v1.Manifest{
		SchemaVersion: 2,
		MediaType:     img.mediaType,
		Config:        v1.Descriptor{MediaType: configType, Digest: configDigest, Size: configSize},
		Annotations:   annotations,
	}
	for i, l := range layers {
		desc, err := describe(l)
		if err != nil {
			return nil, fmt.Errorf("describe layer %d: %w", i, err)
		}
		desc.Annotations = layerAnnotations[i]
		manifest.Layers = append(manifest.Layers, desc)
		img.layers[desc.Digest] = l
	}
	if img.manifest, err = json.Marshal(manifest); err != nil {
		return nil, fmt.Errorf("marshal the manifest: %w", err)
	}
	return partial.CompressedToImage(img)
}

func describe(l partial.CompressedLayer) (v1.Descriptor, error) {
	digest, err := l.Digest()
	if err != nil {
		return v1.Descriptor{}, err
	}
	size, err := l.Size()
	if err != nil {
		return v1.Descriptor{}, err
	}
	mediaType, err := l.MediaType()
	return v1.Descriptor{MediaType: mediaType, Digest: digest, Size: size}, err
}

func (i *image) MediaType() (types.MediaType, error) { return i.mediaType, nil }
func (i *image) RawManifest() ([]byte, error)        { return i.manifest, nil }
func (i *image) RawConfigFile() ([]byte, error)      { return i.config, nil }

func (i *image) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	if configDigest, _, err := v1.SHA256(bytes.NewReader(i.config)); err == nil && h == configDigest {
		return partial.ConfigLayer(i)
	}
	l, ok := i.layers[h]
	if !ok {
		return nil, fmt.Errorf("no layer %s in the image", h)
	}
	return l, nil
}

// storedLayer is a layer that lies in a file as it is pushed.
type storedLayer struct {
	Path   string          `json:"-"`
	Type   types.MediaType `json:"mediaType"`
	Hash   v1.Hash         `json:"digest"`
	Diff   v1.Hash         `json:"diffID"`
	Length int64           `json:"size"`
}

func (l *storedLayer) Digest() (v1.Hash, error)            { return l.Hash, nil }
func (l *storedLayer) DiffID() (v1.Hash, error)            { return l.Diff, nil }
func (l *storedLayer) Size() (int64, error)                { return l.Length, nil }
func (l *storedLayer) MediaType() (types.MediaType, error) { return l.Type, nil }
func (l *storedLayer) Compressed() (io.ReadCloser, error)  { return os.Open(l.Path) }

// bytesLayer is a small layer that is no file system: an attestation, an empty tar.
type bytesLayer struct {
	data      []byte
	mediaType types.MediaType
	diff      v1.Hash
}

func (l *bytesLayer) Digest() (v1.Hash, error) {
	h, _, err := v1.SHA256(bytes.NewReader(l.data))
	return h, err
}
func (l *bytesLayer) DiffID() (v1.Hash, error)            { return l.diff, nil }
func (l *bytesLayer) Size() (int64, error)                { return int64(len(l.data)), nil }
func (l *bytesLayer) MediaType() (types.MediaType, error) { return l.mediaType, nil }
func (l *bytesLayer) Compressed() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(l.data)), nil
}
