package testimage

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// ConvertWithDict converts an image as `nydusify convert --chunk-dict` does: data that the dictionary image has is not
// stored again, and the manifest lists the dictionary's blobs behind the image's own (nydus-snapshotter since v0.15.12).
func ConvertWithDict(t testing.TB, oci v1.Image, dict *Nydus) *Nydus {
	t.Helper()
	source, err := oci.ConfigFile()
	if err != nil {
		t.Fatalf("convert: config of the source image: %v", err)
	}
	o := dict.Options
	key := []string{NydusVersion, "dict", o.FSVersion, o.Compressor, fmt.Sprint(o.ChunkSize)}
	for _, b := range dict.Blobs {
		key = append(key, b.Digest.Hex)
	}
	dir := cached(t, "dict", cacheKey(append(key, diffIDs(source)...)...), func(dir string) error {
		return convertWithDict(Tools(t).NydusImage, dir, oci, dict)
	})
	var blobs []convertedBlob
	readJSON(t, filepath.Join(dir, conversionFile), &blobs)
	n := &Nydus{Source: oci, Options: o, BootstrapPath: filepath.Join(dir, bootstrapFile), BlobDir: filepath.Join(dir, blobDir)}
	for _, b := range blobs {
		n.Blobs = append(n.Blobs, NydusBlob{Digest: b.Digest, Size: b.Size, Path: filepath.Join(n.BlobDir, b.Digest.Hex)})
	}
	n.Image = Wrap(t, n, Wrapping{FSVersion: true, Metas: o.FSVersion == "6", Edit: func(m *v1.Manifest) {
		m.Annotations[AnnotationBuilder] = converterVersion
	}})
	return n
}

func convertWithDict(nydusImage, dir string, oci v1.Image, dict *Nydus) error {
	for _, sub := range []string{blobDir, layerBootDir} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			return err
		}
	}
	layers, err := oci.Layers()
	if err != nil {
		return err
	}
	var blobs []convertedBlob
	var boots []string
	tarFile, blobFile := filepath.Join(dir, "layer.tar"), filepath.Join(dir, "layer.blob")
	for i, l := range layers {
		if err := unpackLayer(l, tarFile); err != nil {
			return fmt.Errorf("unpack layer %d: %w", i, err)
		}
		args := []string{"create", "--log-level", "warn", "--blob", blobFile, "--whiteout-spec", "none", "--type", "tar-rafs",
			"--blob-inline-meta", "--fs-version", dict.Options.FSVersion, "--compressor", dict.Options.Compressor,
			"--chunk-size", fmt.Sprintf("0x%x", dict.Options.ChunkSize), "--chunk-dict", "bootstrap=" + dict.BootstrapPath}
		if dict.Options.FSVersion == "6" {
			args = append(args, "--features", "blob-toc")
		}
		if err := runNydusImage(nydusImage, dir, append(args, tarFile)...); err != nil {
			return fmt.Errorf("convert layer %d: %w", i, err)
		}
		b, err := storeBlob(dir, blobFile, v1.Hash{})
		if err != nil {
			return fmt.Errorf("convert layer %d: %w", i, err)
		}
		blobs = append(blobs, b)
		boots = append(boots, filepath.Join(dir, layerBootDir, b.id()))
	}
	if err := os.Remove(tarFile); err != nil {
		return err
	}
	output := filepath.Join(dir, "merge.json")
	args := append([]string{"merge", "--log-level", "warn", "--output-json", output, "--chunk-dict", "bootstrap=" + dict.BootstrapPath,
		"--bootstrap", filepath.Join(dir, bootstrapFile)}, boots...)
	if err := runNydusImage(nydusImage, dir, args...); err != nil {
		return fmt.Errorf("merge: %w", err)
	}
	raw, err := os.ReadFile(output)
	if err != nil {
		return err
	}
	var merged struct{ Blobs []string }
	if err := json.Unmarshal(raw, &merged); err != nil {
		return err
	}
	for _, b := range dict.Blobs {
		if !slices.Contains(merged.Blobs, b.Digest.Hex) {
			continue
		}
		if err := os.Link(b.Path, filepath.Join(dir, blobDir, b.Digest.Hex)); err != nil {
			return err
		}
		blobs = append(blobs, convertedBlob{Digest: b.Digest, Size: b.Size})
	}
	return writeJSON(filepath.Join(dir, conversionFile), blobs)
}

// OldOrder returns the image as nydusify before v2.4.1 wraps it: the manifest lists the blobs that the merged bootstrap
// refers to, in the bootstrap's order. The history is the source's, for all layers.
func OldOrder(t testing.TB, n *Nydus, table []string) v1.Image {
	t.Helper()
	var blobs []NydusBlob
	for _, id := range table {
		i := slices.IndexFunc(n.Blobs, func(b NydusBlob) bool { return b.Digest.Hex == id })
		if i < 0 {
			t.Fatalf("blob %s is none of the image", id)
		}
		blobs = append(blobs, n.Blobs[i])
	}
	return Wrap(t, n, Wrapping{Blobs: blobs, FSVersion: true})
}
