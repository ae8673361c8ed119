package testimage

import (
	"bytes"
	"embed"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
)

// newerForms are what nydus-image 2.2.0 cannot make, by the tags under which testdata/newer has them.
var newerForms = map[string]ConvertOptions{
	"crc32":           {},
	"batch":           {BatchSize: 0x10000},
	"encrypted":       {Encrypt: true},
	"encrypted-batch": {Encrypt: true, BatchSize: 0x10000},
}

// The tags under which testdata/newer has images that nydusify made of others.
const (
	optimizedTag = "optimized"
	committedTag = "committed"
)

// newerDir holds an OCI layout: the image of Tiny, tag "oci", its Nydus twins, and images made of such twins.
const newerDir = "testdata/newer"

//go:embed testdata/newer
var newer embed.FS

// NewerForms lists the tags of the Nydus twins in NewerLayout.
func NewerForms() []string {
	return []string{"crc32", "batch", "encrypted", "encrypted-batch"}
}

// CommittedSource is an OCI image whose files are those of the image "committed" in NewerLayout.
func CommittedSource(t testing.TB) v1.Image {
	t.Helper()
	upper, err := partial.CompressedToLayer(storeLayer(t, committedUpper()))
	if err != nil {
		t.Fatalf("make the layer that a container wrote: %v", err)
	}
	img, err := mutate.AppendLayers(Newer(t, "oci"), upper)
	if err != nil {
		t.Fatalf("put the layer that a container wrote onto the image: %v", err)
	}
	return img
}

// committedUpper is what the container wrote that "committed" was made of.
func committedUpper() Layer {
	return Layer{
		Text("etc/debian_version", "committed\n"),
		Whiteout("etc/os-release"),
		Reg("opt/written", bytes.Repeat([]byte("written by the container\n"), 10_000)).WithMode(0o600).WithOwner(1000, 1000),
		Sym("opt/link", "written"),
	}.WithParents()
}

// NewerLayout is the path of an OCI layout with the image of Tiny, tag "oci", and with its Nydus twins, tags NewerForms,
// which a newer nydus-image made than that of Tools (testdata/README.md). Tag "optimized" is a twin with a blob of files
// to be prefetched; "committed" is a twin onto which a container's changes were committed (CommittedSource).
func NewerLayout(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "newer")
	stored, err := fs.Sub(newer, newerDir)
	if err == nil {
		err = os.CopyFS(dir, stored)
	}
	if err != nil {
		t.Fatalf("write the layout of newer images: %v", err)
	}
	return dir
}

// Newer is the image of NewerLayout with a tag.
func Newer(t testing.TB, tag string) v1.Image {
	t.Helper()
	index, err := layout.ImageIndexFromPath(NewerLayout(t))
	if err != nil {
		t.Fatalf("open the layout of newer images: %v", err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatalf("open the layout of newer images: %v", err)
	}
	for _, d := range manifest.Manifests {
		if d.Annotations[refNameAnnotation] != tag {
			continue
		}
		img, err := index.Image(d.Digest)
		if err != nil {
			t.Fatalf("open the newer image %q: %v", tag, err)
		}
		return img
	}
	t.Fatalf("there is no newer image %q", tag)
	return nil
}
