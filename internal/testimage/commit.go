package testimage

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
)

// annotationCommitBlobs is what nydusify commit writes (contrib/nydusify/pkg/utils/constant.go).
const annotationCommitBlobs = "containerd.io/snapshot/nydus-commit-blobs"

// Commit makes the image that `nydusify commit --with-path` makes of a container of base (contrib/nydusify/pkg/committer): of what
// it wrote, and of what was mounted into it. All are blobs as of any layer. Their bootstraps are merged onto that of base, those
// of the mounts last, but the manifest lists the mounts first. Source has the layers as they were merged. nydus-image 2.2.0 merges
// onto no other bootstrap than those of layers, so that here all are merged at once, which gives the same tree.
func Commit(t testing.TB, base *Nydus, upper Layer, mounts ...Layer) *Nydus {
	t.Helper()
	written := []Layer{upper}
	written = append(written, mounts...)
	source := base.Source
	var layers []v1.Layer
	key := []string{NydusVersion, "commit", base.Options.FSVersion, base.Options.Compressor}
	for _, b := range base.Blobs {
		key = append(key, b.Digest.Hex)
	}
	for _, l := range written {
		stored := storeLayer(t, l)
		key = append(key, stored.Diff.Hex)
		layer, err := partial.CompressedToLayer(stored)
		if err == nil {
			source, err = mutate.AppendLayers(source, layer)
		}
		if err != nil {
			t.Fatalf("commit: the layers that a container wrote: %v", err)
		}
		layers = append(layers, layer)
	}
	dir := cached(t, "commit", cacheKey(key...), func(dir string) error {
		return commitLayers(Tools(t).NydusImage, dir, base, layers)
	})
	var made []convertedBlob
	readJSON(t, filepath.Join(dir, conversionFile), &made)
	n := &Nydus{Source: base.Source, Options: base.Options, BootstrapPath: filepath.Join(dir, bootstrapFile), BlobDir: filepath.Join(dir, blobDir)}
	n.Blobs = slices.Clone(base.Blobs)
	var committed []string
	for _, b := range append(slices.Clone(made[1:]), made[0]) {
		n.Blobs = append(n.Blobs, NydusBlob{Digest: b.Digest, Size: b.Size, Path: filepath.Join(n.BlobDir, b.Digest.Hex)})
		committed = append(committed, b.Digest.String())
	}
	n.Image = Wrap(t, n, Wrapping{FSVersion: true, Edit: func(m *v1.Manifest) {
		m.Annotations[AnnotationBuilder] = converterVersion
		m.Layers[len(m.Layers)-1].Annotations[annotationCommitBlobs] = strings.Join(committed, ",")
	}})
	n.Source = source
	return n
}

// commitLayers converts the layers and merges them onto base, in their order.
func commitLayers(nydusImage, dir string, base *Nydus, layers []v1.Layer) error {
	for _, sub := range []string{blobDir, layerBootDir} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			return err
		}
	}
	for _, b := range base.Blobs {
		if err := os.Link(b.Path, filepath.Join(dir, blobDir, b.Digest.Hex)); err != nil {
			return err
		}
	}
	args := []string{"merge", "--log-level", "warn", "--prefetch-policy", "fs", "--output-json", filepath.Join(dir, "merge.json"),
		"--bootstrap", filepath.Join(dir, bootstrapFile)}
	for _, b := range base.Blobs {
		args = append(args, b.BootstrapPath)
	}
	options := ConvertOptions{FSVersion: base.Options.FSVersion, Compressor: base.Options.Compressor}.withDefaults()
	var made []convertedBlob
	for i, l := range layers {
		b, err := convertLayer(nydusImage, dir, l, options)
		if err != nil {
			return fmt.Errorf("convert committed layer %d: %w", i, err)
		}
		made = append(made, b)
		args = append(args, filepath.Join(dir, layerBootDir, b.id()))
	}
	if err := runNydusImage(nydusImage, dir, args...); err != nil {
		return fmt.Errorf("merge: %w", err)
	}
	return writeJSON(filepath.Join(dir, conversionFile), made)
}

// CommittedLayers are what a container wrote and what was mounted into it, for Commit: files over which something is mounted, and
// that the container changed, are in both.
func CommittedLayers() (upper Layer, mounts []Layer) {
	upper = Layer{
		Reg("etc/hosts", nil), // where a file is mounted
		Text("etc/debian_version", "12.committed\n"),
		Text("srv/data/config", "written before the mount\n"),
		Text("srv/data/hidden.env", "below the mount\n"),
		SecretFile("opt/written.env"),
	}.WithParents()
	return upper, []Layer{
		// As tar --absolute-names gives a path to archive.
		{Text("/etc/hosts", "127.0.0.1 localhost\n")},
		{Dir("/srv/data"), Text("/srv/data/config", "of the mount\n"), SecretFile("/srv/data/mounted.env")},
	}
}
