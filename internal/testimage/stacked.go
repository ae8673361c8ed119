package testimage

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Stack converts an image as nydusify did before v2.2: each layer is unpacked into a folder and built onto the bootstrap
// of the layers below (nydus-image create --type dir-rafs --parent-bootstrap). Such blobs carry no bootstrap of their own,
// a layer without new data has none, and equal chunks are stored once for the whole image. With one layer this is what
// nydusify pack makes of a folder. It takes root.
func Stack(t testing.TB, oci v1.Image, fsVersion string) *Nydus {
	t.Helper()
	source, err := oci.ConfigFile()
	if err != nil {
		t.Fatalf("stack: config of the source image: %v", err)
	}
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED, NOTHING WAS BUILT: unpacking layers with their owners and devices takes root")
	}
	key := cacheKey(append(diffIDs(source), NydusVersion, "stack 2", fsVersion)...)
	dir := cached(t, "stacked", key, func(dir string) error { return stack(Tools(t).NydusImage, dir, oci, fsVersion) })
	n := &Nydus{Source: oci, Options: ConvertOptions{FSVersion: fsVersion}.withDefaults(),
		BootstrapPath: filepath.Join(dir, bootstrapFile), BlobDir: filepath.Join(dir, blobDir)}
	var blobs []convertedBlob
	readJSON(t, filepath.Join(dir, conversionFile), &blobs)
	for _, b := range blobs {
		n.Blobs = append(n.Blobs, NydusBlob{Digest: b.Digest, Size: b.Size, Path: filepath.Join(n.BlobDir, b.Digest.Hex)})
	}
	n.Image = Wrap(t, n, Wrapping{FSVersion: true})
	return n
}

func stack(nydusImage, dir string, oci v1.Image, fsVersion string) error {
	layers, err := oci.Layers()
	if err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(dir, blobDir), 0o755); err != nil {
		return err
	}
	var blobs []convertedBlob
	known := map[string]bool{}
	parent, bootstrap := filepath.Join(dir, "parent.boot"), filepath.Join(dir, bootstrapFile)
	for i, l := range layers {
		args := []string{"create", "--log-level", "warn", "--type", "dir-rafs", "--whiteout-spec", "oci", "--fs-version", fsVersion,
			"--compressor", "zstd", "--bootstrap", bootstrap, "--blob-dir", filepath.Join(dir, blobDir)}
		if i > 0 {
			if err := os.Rename(bootstrap, parent); err != nil {
				return err
			}
			args = append(args, "--parent-bootstrap", parent)
		}
		tree, err := extract(dir, l)
		if err != nil {
			return fmt.Errorf("unpack layer %d: %w", i, err)
		}
		if err := runNydusImage(nydusImage, dir, append(args, tree)...); err != nil {
			return fmt.Errorf("build layer %d: %w", i, err)
		}
		if err := os.RemoveAll(tree); err != nil {
			return err
		}
		entries, err := os.ReadDir(filepath.Join(dir, blobDir))
		if err != nil {
			return err
		}
		for _, e := range entries { // at most one is new
			if known[e.Name()] {
				continue
			}
			known[e.Name()] = true
			digest, size, err := hashFile(filepath.Join(dir, blobDir, e.Name()))
			if err != nil {
				return err
			}
			blobs = append(blobs, convertedBlob{Digest: digest, Size: size})
		}
	}
	return writeJSON(filepath.Join(dir, conversionFile), blobs)
}

// extract unpacks a layer, whiteouts as the files that they are.
func extract(dir string, l v1.Layer) (string, error) {
	archive, tree := filepath.Join(dir, "layer.tar"), filepath.Join(dir, "tree")
	if err := unpackLayer(l, archive); err != nil {
		return "", err
	}
	defer os.Remove(archive)
	if err := os.Mkdir(tree, 0o755); err != nil {
		return "", err
	}
	_, err := output(exec.Command("tar", "--extract", "--file", archive, "--directory", tree, "--same-owner", "--same-permissions",
		"--numeric-owner", "--xattrs", "--xattrs-include=*", "--delay-directory-restore"))
	return tree, err
}
