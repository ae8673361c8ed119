package testimage

import (
	"archive/tar"
	"bytes"
	_ "embed"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
)

// OnlyBootstrap returns a converted image as converters leave it that store the blobs in a backend (oss, s3, a folder),
// after nydus-snapshotter's convertManifest (pkg/converter/convert_unix.go): manifest, config and history know the
// bootstrap layer alone. The blobs lie in n.BlobDir. backend, if not nil, is added to the bootstrap layer as
// image/backend.json.
func OnlyBootstrap(t testing.TB, n *Nydus, backend []byte) v1.Image {
	t.Helper()
	archive, err := os.ReadFile(n.BootstrapTar)
	if err != nil {
		t.Fatalf("make an image of the bootstrap alone: %v", err)
	}
	manifest, err := n.Manifest()
	if err != nil {
		t.Fatalf("make an image of the bootstrap alone: %v", err)
	}
	config, err := n.ConfigFile()
	if err != nil {
		t.Fatalf("make an image of the bootstrap alone: %v", err)
	}
	layer := bootstrapLayer(t, archive, backend)
	config = config.DeepCopy()
	config.RootFS.DiffIDs = []v1.Hash{layer.diff}
	config.History = config.History[len(config.History)-1:]
	img, err := newImage(config, types.OCIConfigJSON, []partial.CompressedLayer{layer},
		[]map[string]string{manifest.Layers[len(manifest.Layers)-1].Annotations}, manifest.Annotations)
	if err != nil {
		t.Fatalf("make an image of the bootstrap alone: %v", err)
	}
	return img
}

// bootstrapLayer packs a tar, and backend.json if there is one.
func bootstrapLayer(t testing.TB, archive, backend []byte) *bytesLayer {
	t.Helper()
	var plain, packed bytes.Buffer
	w := tar.NewWriter(&plain)
	files := tar.NewReader(bytes.NewReader(archive))
	for {
		h, err := files.Next()
		if err == io.EOF {
			break
		}
		if err == nil {
			err = w.WriteHeader(h)
		}
		if err == nil {
			_, err = io.Copy(w, files)
		}
		if err != nil {
			t.Fatalf("copy a bootstrap layer: %v", err)
		}
	}
	if backend != nil {
		addFile(t, w, "image/backend.json", backend)
	}
	if err := w.Close(); err != nil {
		t.Fatalf("pack a bootstrap layer: %v", err)
	}
	diff, _, err := v1.SHA256(bytes.NewReader(plain.Bytes()))
	if err != nil {
		t.Fatalf("hash a bootstrap layer: %v", err)
	}
	gz := gzip.NewWriter(&packed)
	_, err = gz.Write(plain.Bytes())
	if err == nil {
		err = gz.Close()
	}
	if err != nil {
		t.Fatalf("compress a bootstrap layer: %v", err)
	}
	return &bytesLayer{data: packed.Bytes(), mediaType: types.OCILayer, diff: diff}
}

func addFile(t testing.TB, w *tar.Writer, name string, data []byte) {
	t.Helper()
	err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o444, Size: int64(len(data))})
	if err == nil {
		_, err = w.Write(data)
	}
	if err != nil {
		t.Fatalf("add %s to an archive: %v", name, err)
	}
}

// modelBootstrap is the bootstrap of a model artifact. nydus-image 2.2.0 cannot make one, so it was made by one built from
// dragonflyoss/nydus at 34e6071e, with the options of nydusify (pkg/converter, convertModelArtifact), from empty files with
// the names of [ModelLayer] and an attributes file that says of each where its data lies in the layer's tar:
//
//	nydus-image create --type directory --fs-version 5 --blob-inline-meta --compressor none --chunk-size 0x2000 --whiteout-spec none \
//	    --attributes ATTRIBUTES --blob /dev/null --external-blob testdata/model.boot FOLDER
//
//go:embed testdata/model.boot
var modelBootstrap []byte

// ModelLayer is what the layer of a model artifact holds.
func ModelLayer() Layer {
	weights := strings.Repeat("0123456789abcdef", 2000) // four chunks of 8 KiB, the last one not full
	return Layer{Text("config.json", `{"model_type": "test"}`+"\n"), SecretFile("deploy.env"), Text("weights.bin", weights)}
}

// Model is a model artifact (CNCF ModelPack) as nydusify converts it. Its one data layer is the tar of the model, and
// the bootstrap's only blob, which is marked as one of an external backend. BlobDir holds it, for nydusd.
type Model struct {
	v1.Image
	BlobDir string
}

// BuildModel makes the model artifact.
func BuildModel(t testing.TB) Model {
	t.Helper()
	var data bytes.Buffer
	if err := ModelLayer().writeTar(&data); err != nil {
		t.Fatalf("make a model's layer: %v", err)
	}
	digest, size, err := v1.SHA256(bytes.NewReader(data.Bytes()))
	if err != nil {
		t.Fatalf("hash a model's layer: %v", err)
	}
	if !bytes.Contains(modelBootstrap, []byte(digest.Hex)) {
		t.Fatalf("testdata/model.boot was made for another layer than sha256:%s", digest.Hex)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, digest.Hex), data.Bytes(), 0o644); err != nil {
		t.Fatalf("store a model's layer: %v", err)
	}
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	addFile(t, w, "image/image.boot", modelBootstrap)
	if err := w.Close(); err != nil {
		t.Fatalf("pack a model's bootstrap: %v", err)
	}
	backend := mustJSON(t, map[string]any{
		"version":  "v1",
		"backends": []any{map[string]string{"type": "registry"}},
		"blobs": []any{map[string]any{"backend": 0, "config": map[string]any{
			"media_type": mediaTypeModelWeight, "digest": digest.Hex, "size": size, "chunk_size": "8KiB",
		}}},
	})
	bootstrap := bootstrapLayer(t, archive.Bytes(), backend)
	model := &bytesLayer{data: data.Bytes(), mediaType: mediaTypeModelWeight, diff: digest}
	return Model{Image: modelImage(t, model, bootstrap), BlobDir: dir}
}

const (
	mediaTypeModelConfig = "application/vnd.cncf.model.config.v1+json"
	mediaTypeModelWeight = "application/vnd.cncf.model.weight.v1.tar"
	artifactTypeModel    = "application/vnd.cncf.model.manifest.v1+json"
)

// modelImage makes manifest and config: the latter describes a model, not how to run a container.
func modelImage(t testing.TB, model, bootstrap *bytesLayer) v1.Image {
	t.Helper()
	config := mustJSON(t, map[string]any{
		"descriptor": map[string]string{"name": "test"},
		"modelfs":    map[string]any{"type": "layers", "diffIds": []string{model.diff.String()}},
		"config":     map[string]string{"architecture": "transformer", "format": "safetensors"},
	})
	img := &image{mediaType: types.OCIManifestSchema1, config: config, layers: map[v1.Hash]partial.CompressedLayer{}}
	digest, size, err := v1.SHA256(bytes.NewReader(config))
	if err != nil {
		t.Fatalf("hash a model's config: %v", err)
	}
	manifest := map[string]any{
		"schemaVersion": 2, "mediaType": types.OCIManifestSchema1, "artifactType": artifactTypeModel,
		"config": v1.Descriptor{MediaType: mediaTypeModelConfig, Digest: digest, Size: size},
	}
	var layers []v1.Descriptor
	for _, l := range []*bytesLayer{model, bootstrap} {
		d, err := describe(l)
		if err != nil {
			t.Fatalf("describe a model's layer: %v", err)
		}
		if l == bootstrap {
			d.Annotations = map[string]string{AnnotationBootstrap: "true", AnnotationFSVersion: "5",
				"containerd.io/snapshot/nydus-artifact-type": artifactTypeModel}
		}
		layers = append(layers, d)
		img.layers[d.Digest] = l
	}
	manifest["layers"] = layers
	img.manifest = mustJSON(t, manifest)
	out, err := partial.CompressedToImage(img)
	if err != nil {
		t.Fatalf("make a model artifact: %v", err)
	}
	return out
}

func mustJSON(t testing.TB, value any) []byte {
	t.Helper()
	raw, err := json.Marshal(value)
	if err != nil {
		t.Fatalf("spell as JSON: %v", err)
	}
	return raw
}
