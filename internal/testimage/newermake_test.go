package testimage

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/require"
)

// Annotations that nydusify optimize and nydusify commit write (contrib/nydusify/pkg/utils/constant.go).
const (
	annotationPrefetchBlob = "containerd.io/snapshot/nydus-separated-blob-with-prefetch-files"
	annotationUncompressed = "containerd.io/uncompressed"
)

// prefetchFiles is what nydusify optimize is told to prefetch.
const prefetchFiles = `{"version":"v1","files":[{"path":"/etc/debian_version"},{"path":"/usr/bin/hostname"},` +
	`{"path":"/usr/lib/os-release"},{"path":"/var/lib/dpkg/status","ranges":[[0,4096]]}]}`

// optimize copies files to a blob of their own as nydusify optimize does (contrib/nydusify/pkg/optimizer).
func optimize(t *testing.T, base *Nydus) v1.Image {
	t.Helper()
	dir := t.TempDir()
	list, bootstrap, blobs := filepath.Join(dir, "prefetch.json"), filepath.Join(dir, bootstrapFile), filepath.Join(dir, blobDir)
	require.NoError(t, os.WriteFile(list, []byte(prefetchFiles), 0o600))
	require.NoError(t, os.Mkdir(blobs, 0o755))
	require.NoError(t, runNydusImage(base.Options.NydusImage, dir, "optimize", "--log-level", "warn", "--prefetch-files", list,
		"--bootstrap", base.BootstrapPath, "--blob-dir", base.BlobDir, "--output-blob-dir", blobs,
		"--output-bootstrap", bootstrap, "--output-json", filepath.Join(dir, "output.json")))
	made, err := os.ReadDir(blobs)
	require.NoError(t, err)
	require.Len(t, made, 1)
	digest, size, err := hashFile(filepath.Join(blobs, made[0].Name()))
	require.NoError(t, err)
	require.Equal(t, digest.Hex, made[0].Name())
	blob := &storedLayer{Path: filepath.Join(blobs, made[0].Name()), Type: MediaTypeNydusBlob, Hash: digest, Diff: digest, Length: size}
	return extend(t, base, blob, map[string]string{AnnotationBlob: "true"},
		map[string]string{bootstrapFile: bootstrap, "prefetch.files": list}, annotationPrefetchBlob, digest.Hex)
}

// commit puts what a container wrote onto an image as nydusify commit does (contrib/nydusify/pkg/committer): the blob as
// of any layer, its bootstrap merged onto that of the image. The batches of the image are not the blob's.
func commit(t *testing.T, base *Nydus, upper Layer) v1.Image {
	t.Helper()
	dir := t.TempDir()
	for _, sub := range []string{blobDir, layerBootDir} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, sub), 0o755))
	}
	layer, err := partial.CompressedToLayer(storeLayer(t, upper))
	require.NoError(t, err)
	packed := ConvertOptions{FSVersion: base.Options.FSVersion, Compressor: base.Options.Compressor}.withDefaults()
	b, err := convertLayer(base.Options.NydusImage, dir, layer, packed)
	require.NoError(t, err)
	bootstrap := filepath.Join(dir, bootstrapFile)
	require.NoError(t, runNydusImage(base.Options.NydusImage, dir, "merge", "--log-level", "warn", "--prefetch-policy", "fs",
		"--output-json", filepath.Join(dir, "merge.json"), "--bootstrap", bootstrap, "--parent-bootstrap", base.BootstrapPath,
		filepath.Join(dir, layerBootDir, b.id())))
	blob := &storedLayer{Path: filepath.Join(dir, blobDir, b.id()), Type: MediaTypeNydusBlob, Hash: b.Digest, Diff: b.Digest, Length: b.Size}
	return extend(t, base, blob, map[string]string{AnnotationBlob: "true", annotationUncompressed: b.Digest.String()},
		map[string]string{bootstrapFile: bootstrap}, annotationCommitBlobs, b.Digest.String())
}

// extend makes the image of base with another blob above its own and another bootstrap layer, of the files by their names
// in it, with one more annotation. The history stays that of base.
func extend(t *testing.T, base *Nydus, blob *storedLayer, blobAnnotations, files map[string]string, annotation, value string) v1.Image {
	t.Helper()
	manifest, err := base.Manifest()
	require.NoError(t, err)
	config, err := base.ConfigFile()
	require.NoError(t, err)
	bootstrap, _, err := (&Wrapping{}).bootstrapLayer(bootstrapArchive(t, files))
	require.NoError(t, err)

	config = config.DeepCopy()
	last := len(manifest.Layers) - 1
	config.RootFS.DiffIDs = append(config.RootFS.DiffIDs[:last:last], blob.Diff, bootstrap.diff)
	var layers []partial.CompressedLayer
	var annotations []map[string]string
	for i, b := range base.Blobs {
		layers = append(layers, &storedLayer{Path: b.Path, Type: MediaTypeNydusBlob, Hash: b.Digest, Diff: b.Digest, Length: b.Size})
		annotations = append(annotations, manifest.Layers[i].Annotations)
	}
	ofBootstrap := manifest.DeepCopy().Layers[last].Annotations
	ofBootstrap[annotation] = value
	img, err := newImage(config, types.OCIConfigJSON, append(layers, blob, bootstrap),
		append(annotations, blobAnnotations, ofBootstrap), manifest.Annotations)
	require.NoError(t, err)
	return img
}

// bootstrapArchive packs files by their names in the folder image, the bootstrap first.
func bootstrapArchive(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var packed bytes.Buffer
	tw := tar.NewWriter(&packed)
	require.NoError(t, tw.WriteHeader(&tar.Header{Name: "image", Mode: 0o755, Typeflag: tar.TypeDir}))
	for _, name := range []string{bootstrapFile, "prefetch.files"} {
		path, ok := files[name]
		if !ok {
			continue
		}
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NoError(t, tw.WriteHeader(&tar.Header{Name: "image/" + name, Mode: 0o444, Size: int64(len(data))}))
		_, err = tw.Write(data)
		require.NoError(t, err)
	}
	require.NoError(t, tw.Close())
	return packed.Bytes()
}
