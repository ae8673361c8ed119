package mutate_test

import (
	"bytes"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/mutate"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

var update = flag.Bool("update", false, "write the images anew")

// everyKind is a tree with every kind of inode, small.
func everyKind() testimage.Spec {
	return testimage.Spec{Name: "fuzzed", Layers: []testimage.Layer{testimage.Layer{
		testimage.Text("etc/hostname", "nydus\n").WithTime(time.Unix(86400, 0)), testimage.Reg("empty", nil),
		testimage.Text("etc/motd", strings.Repeat("Be well. ", 1500)).WithOwner(1000, 2_000_001).WithMode(0o4755),
		testimage.Sym("link", "etc/motd"), testimage.Hard("hard", "etc/motd").WithOwner(1000, 2_000_001).WithMode(0o4755),
		testimage.Char("dev/null", 1, 3), testimage.Block("dev/sda", 8, 0), testimage.Pipe("dev/fifo"),
		testimage.Text("xattr/file", "x\n").WithXattr("user.one", "1").WithXattr("user.binary", "\x00\x01\xff").WithXattr("trusted.t", "tt"),
		testimage.Dir("xattr/dir").WithXattr("security.x", strings.Repeat("y", 40)), testimage.Dir("void").WithMode(0o1777),
		testimage.Text("names/two  words\n", "a"), testimage.Text("names/"+strings.Repeat("n", 255), "b"), testimage.Text("a/b/c/d", "d"),
	}.WithParents()}}
}

// layered are two layers, each of which has files that are shown.
func layered() testimage.Spec {
	return testimage.Spec{Name: "fuzzed-layers", Layers: []testimage.Layer{
		testimage.Layer{testimage.Text("a/below", "below\n"), testimage.Text("a/both", "b"), testimage.Text("long", strings.Repeat("Be well. ", 1000))}.WithParents(),
		testimage.Layer{testimage.Text("a/above", "above\n"), testimage.Text("a/both", "above"), testimage.Text("more", strings.Repeat("Do well. ", 1000))}.WithParents(),
	}}
}

// TestImages makes the images, and compares their trees with those that are kept.
func TestImages(t *testing.T) {
	one, two := testimage.BuildOCI(t, everyKind()), testimage.BuildOCI(t, layered())
	for name, options := range map[string]testimage.ConvertOptions{
		"v5-two":  {FSVersion: "5", ChunkSize: 4096},
		"v6-two":  {ChunkSize: 4096},
		"v5-lz4":  {FSVersion: "5", Compressor: "lz4_block", ChunkSize: 4096},
		"v5-zstd": {FSVersion: "5", Digester: "sha256", ChunkSize: 4096},
		"v6-lz4":  {Compressor: "lz4_block", ChunkSize: 4096},
		"v6-none": {Compressor: "none", Digester: "sha256", ChunkSize: 4096},
		"v6-zstd": {ChunkSize: 4096},
		"v6-zran": {OCIRef: true},
	} {
		oci := one
		if strings.HasSuffix(name, "-two") {
			oci = two
		}
		nydus := testimage.Convert(t, oci, options)
		dir := filepath.Join("testdata", name)
		bootstrap, err := os.ReadFile(nydus.BootstrapPath)
		require.NoError(t, err)
		if *update {
			require.NoError(t, os.RemoveAll(dir))
			require.NoError(t, os.MkdirAll(filepath.Join(dir, "blobs"), 0o755))
			require.NoError(t, os.WriteFile(filepath.Join(dir, "bootstrap"), bootstrap, 0o644))
			for _, b := range nydus.Blobs {
				layer, err := os.ReadFile(b.Path)
				require.NoError(t, err)
				id, data := b.Digest.Hex, layer
				if options.OCIRef {
					require.NoError(t, os.WriteFile(filepath.Join(dir, "layer"), layer, 0o644))
					id = b.Ref.Hex
					source, err := oci.LayerByDigest(b.Ref)
					require.NoError(t, err)
					r, err := source.Compressed()
					require.NoError(t, err)
					data, err = io.ReadAll(r)
					require.NoError(t, err)
				}
				require.NoError(t, os.WriteFile(filepath.Join(dir, "blobs", id), data, 0o644))
			}
			continue
		}
		kept, err := os.ReadFile(filepath.Join(dir, "bootstrap"))
		require.NoError(t, err)
		require.Equal(t, paths(t, bootstrap), paths(t, kept), name)
	}
}

func paths(t *testing.T, bootstrap []byte) (all []string) {
	t.Helper()
	tree, err := rafs.Open(bytes.NewReader(bootstrap), int64(len(bootstrap)))
	require.NoError(t, err)
	require.NoError(t, tree.Walk(func(path string, _ rafs.Inode) error { all = append(all, path); return nil }))
	return all
}

// TestApply: no change is none, though everything is mended; and every field can be
// changed.
func TestApply(t *testing.T) {
	for _, image := range mutate.Images(t) {
		s, err := mutate.New(image.Bootstrap)
		require.NoError(t, err, image.Name)
		require.True(t, bytes.Equal(image.Bootstrap, s.Apply(nil)), image.Name)
		mended := s.Apply([]byte{0})
		for at := range mended {
			require.Equal(t, image.Bootstrap[at], mended[at], "%s: mending alters byte %d of what is sound", image.Name, at)
		}
		for _, name := range s.Names() {
			recipe := append([]byte{mutate.KeepDigests | mutate.KeepCounts | mutate.KeepLinks}, s.Step(name, 0, 0, 1)...)
			require.False(t, bytes.Equal(image.Bootstrap, s.Apply(recipe)), "%s: %s", image.Name, name)
		}
		require.Equal(t, paths(t, image.Bootstrap), paths(t, s.Apply([]byte{mutate.MoveTable})), "%s with a table moved", image.Name)
	}
}
