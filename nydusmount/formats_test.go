package nydusmount_test

import (
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/consistency"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
)

// openLayout opens an image of an OCI layout natively.
func openLayout(t *testing.T, path string) *nydusmount.Mount {
	t.Helper()
	image, err := nydusimage.Open(t.Context(), path, nydusimage.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, image.Close()) })
	mount, err := nydusmount.Native(t.Context(), image)
	require.NoError(t, err)
	return mount
}

// assertShows compares every field and byte of the merged tree with a folder in
// which the real nydusd shows the same, and the trees of the layers, applied,
// with the merged one.
func assertShows(t *testing.T, dir string, mount *nydusmount.Mount) {
	t.Helper()
	differences, err := consistency.Compare(consistency.Dir(dir), consistency.Tree(mount.Merged.Tree, mount.Merged.Data))
	require.NoError(t, err)
	for _, d := range differences {
		// nydusd shows its own start time for a time of 0.
		if d.Field == "mtime" && strings.HasPrefix(d.Got, "1970-01-01 00:00:00 ") {
			continue
		}
		t.Error(d)
	}
	require.True(t, mount.LayerTrees(), "every blob carries its layer's bootstrap")
	overlay, err := mount.Overlay(t.Context())
	require.NoError(t, err)
	contradiction, err := overlay.Compare(t.Context(), mount.Merged.Tree)
	require.NoError(t, err)
	assert.Nil(t, contradiction)
}

// assertLayersRead reads all files of all layers' own trees.
func assertLayersRead(t *testing.T, mount *nydusmount.Mount) {
	t.Helper()
	for _, layer := range mount.Layers {
		differences, err := consistency.Compare(consistency.Tree(layer.Tree, layer.Data), consistency.Tree(layer.Tree, layer.Data))
		require.NoError(t, err)
		assert.Empty(t, differences)
	}
}

// TestReadsNewerForms reads what a newer nydus-image made: batches, encrypted
// data, CRC-32C beside digests. nydusd 2.2.0, which cannot read that, shows a
// conversion of its own of the same source.
func TestReadsNewerForms(t *testing.T) {
	converted := testimage.Convert(t, testimage.Newer(t, "oci"), testimage.ConvertOptions{})
	dir := testimage.Mount(t, converted.BootstrapPath, converted.BlobDir)
	layout := testimage.NewerLayout(t)
	for _, form := range testimage.NewerForms() {
		t.Run(form, func(t *testing.T) {
			mount := openLayout(t, layout+":"+form)
			assertShows(t, dir, mount)
			assertLayersRead(t, mount)
			assert.Equal(t, mount.Stats().Chunks, mount.Stats().Chunks-mount.Stats().ChunksAgain, "nothing is decoded twice")
			if !strings.HasPrefix(form, "encrypted") {
				assert.Empty(t, mount.Warnings)
				return
			}
			assert.Equal(t, []string{"the image's data is encrypted, but the key lies beside it, in the bootstrap and at the end of 3 of 3 blobs: whoever can pull the image can read it"}, mount.Warnings)
		})
	}
}

// TestReadsZran reads images whose data stays in the OCI layers.
func TestReadsZran(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	for _, c := range []struct {
		name string
		oci  v1.Image
		// nydusd 2.2.0 cannot read on behind the end of a gzip member.
		plain bool
	}{
		{name: "tiny", oci: testimage.BuildOCI(t, testimage.Tiny(t))},
		{name: "odd", oci: testimage.BuildOCI(t, testimage.Odd(t))},
		{name: "debian-app", oci: testimage.BuildOCI(t, testimage.DebianApp(t))},
		{name: "members of 10,000 bytes", oci: testimage.Members(t, testimage.BuildOCI(t, testimage.Tiny(t)), 10_000), plain: true},
		{name: "members of 1,000,000 bytes", oci: testimage.Members(t, testimage.BuildOCI(t, testimage.DebianApp(t)), 1_000_000), plain: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			converted := testimage.Convert(t, c.oci, testimage.ConvertOptions{OCIRef: true})
			layout := t.TempDir()
			testimage.WriteLayout(t, layout, map[string]any{"oci": c.oci, "zran": converted})
			shown := converted
			if c.plain {
				shown = testimage.Convert(t, c.oci, testimage.ConvertOptions{})
			}
			mount := openLayout(t, layout+":zran")
			assertShows(t, testimage.Mount(t, shown.BootstrapPath, shown.BlobDir), mount)
			assertLayersRead(t, mount)
		})
	}
}
