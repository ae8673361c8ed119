package testimage

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/containers/ocicrypt"
	"github.com/containers/ocicrypt/config"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A Wrapping is how a converter other than Convert's puts a manifest around a bootstrap and its blobs.
type Wrapping struct {
	Bootstrap     []byte                // the merged bootstrap; nil: the image's own
	BootstrapName string                // its name in the bootstrap layer; empty: image/image.boot
	Compression   string                // of the bootstrap layer: "gzip", "zstd" or "none"; empty: "gzip"
	Metas         bool                  // put blob.meta files beside the bootstrap, as nydus-snapshotter does since v0.15.11
	Docker        bool                  // docker's media types, as for a source image of that kind
	FSVersion     bool                  // say the version of RAFS in annotations
	Blobs         []NydusBlob           // nil: the image's own
	History       []v1.History          // nil: the source's and an entry for the bootstrap layer
	Recipients    []config.CryptoConfig // whom the bootstrap layer is encrypted for; none: it is not

	// Edit changes the manifest last.
	Edit func(*v1.Manifest)
}

// Wrap makes an image of the parts of another.
func Wrap(t testing.TB, n *Nydus, w Wrapping) v1.Image {
	t.Helper()
	img, err := wrap(n, w)
	if err != nil {
		t.Fatalf("wrap a Nydus image: %v", err)
	}
	return img
}

func wrap(n *Nydus, w Wrapping) (v1.Image, error) {
	blobs := w.Blobs
	if blobs == nil {
		blobs = n.Blobs
	}
	source, err := n.Source.ConfigFile()
	if err != nil {
		return nil, err
	}
	archive, err := w.archive(n, blobs)
	if err != nil {
		return nil, fmt.Errorf("pack the bootstrap layer: %w", err)
	}
	layer, annotations, err := w.bootstrapLayer(archive)
	if err != nil {
		return nil, err
	}
	annotations[AnnotationBootstrap] = "true"
	manifestAnnotations := map[string]string{}
	if w.FSVersion {
		annotations[AnnotationFSVersion] = n.Options.FSVersion
		manifestAnnotations[AnnotationFSVersion] = n.Options.FSVersion
	}
	c := source.DeepCopy()
	c.RootFS.DiffIDs = nil
	var layers []partial.CompressedLayer
	var all []map[string]string
	for _, b := range blobs {
		layers = append(layers, &storedLayer{Path: b.Path, Type: MediaTypeNydusBlob, Hash: b.Digest, Diff: b.Digest, Length: b.Size})
		all = append(all, map[string]string{AnnotationBlob: "true"})
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, b.Digest)
	}
	c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, layer.diff)
	c.History = append(c.History, v1.History{CreatedBy: bootstrapHistoryBy, Comment: bootstrapHistoryNote})
	if w.History != nil {
		c.History = w.History
	}
	configType := types.OCIConfigJSON
	if w.Docker {
		configType = types.DockerConfigJSON
	}
	img, err := newImage(c, configType, append(layers, layer), append(all, annotations), manifestAnnotations)
	if err != nil {
		return nil, err
	}
	return editManifest(img, func(m *v1.Manifest) {
		if w.Docker {
			m.MediaType = types.DockerManifestSchema2
		}
		if m.Annotations == nil {
			m.Annotations = map[string]string{}
		}
		if w.Edit != nil {
			w.Edit(m)
		}
	})
}

// archive packs the bootstrap layer's tar.
func (w *Wrapping) archive(n *Nydus, blobs []NydusBlob) ([]byte, error) {
	bootstrap := w.Bootstrap
	if bootstrap == nil {
		var err error
		if bootstrap, err = os.ReadFile(n.BootstrapPath); err != nil {
			return nil, err
		}
	}
	name := w.BootstrapName
	if name == "" {
		name = "image/image.boot"
	}
	var packed bytes.Buffer
	tw := tar.NewWriter(&packed)
	if err := tw.WriteHeader(&tar.Header{Name: "image", Mode: 0o755, Typeflag: tar.TypeDir}); err != nil {
		return nil, err
	}
	add := func(name string, data []byte) error {
		err := tw.WriteHeader(&tar.Header{Name: name, Mode: 0o444, Size: int64(len(data))})
		if err == nil {
			_, err = tw.Write(data)
		}
		return err
	}
	if err := add(name, bootstrap); err != nil {
		return nil, err
	}
	for _, b := range blobs {
		if !w.Metas {
			break
		}
		meta, err := blobMeta(b.Path)
		if err != nil {
			return nil, err
		}
		if len(meta) == 0 {
			continue
		}
		if err := add("image/"+b.Digest.Hex+".blob.meta", meta); err != nil {
			return nil, err
		}
	}
	return packed.Bytes(), tw.Close()
}

// bootstrapLayer compresses the archive and encrypts it.
func (w *Wrapping) bootstrapLayer(archive []byte) (*bytesLayer, map[string]string, error) {
	diff, _, err := v1.SHA256(bytes.NewReader(archive))
	if err != nil {
		return nil, nil, err
	}
	layer := &bytesLayer{diff: diff}
	var packed bytes.Buffer
	var zip io.WriteCloser
	switch w.Compression {
	case "", "gzip":
		zip, layer.mediaType = gzip.NewWriter(&packed), types.OCILayer
		if w.Docker {
			layer.mediaType = types.DockerLayer
		}
	case "zstd":
		layer.mediaType = types.OCILayerZStd
		if zip, err = zstd.NewWriter(&packed); err != nil {
			return nil, nil, err
		}
	case "none":
		layer.data, layer.mediaType = archive, types.OCIUncompressedLayer
		if w.Docker {
			layer.mediaType = types.DockerUncompressedLayer
		}
	default:
		return nil, nil, fmt.Errorf("compression %q is not known", w.Compression)
	}
	if zip != nil {
		if _, err := zip.Write(archive); err != nil {
			return nil, nil, err
		}
		if err := zip.Close(); err != nil {
			return nil, nil, err
		}
		layer.data = packed.Bytes()
	}
	if len(w.Recipients) == 0 {
		return layer, map[string]string{}, nil
	}
	annotations, err := layer.encrypt(config.CombineCryptoConfigs(w.Recipients))
	return layer, annotations, err
}

// encrypt encrypts the layer as nydus-snapshotter's EncryptNydusBootstrap does (pkg/encryption/encryption.go).
func (l *bytesLayer) encrypt(cc config.CryptoConfig) (map[string]string, error) {
	plain := digest.FromBytes(l.data)
	r, finish, err := ocicrypt.EncryptLayer(cc.EncryptConfig, bytes.NewReader(l.data), ocispec.Descriptor{Digest: plain})
	if err != nil {
		return nil, err
	}
	if l.data, err = io.ReadAll(r); err != nil {
		return nil, err
	}
	l.mediaType += "+encrypted"
	return finish()
}
