package consistency

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
)

// TestCommitted: an image that nydusify commit --with-path made holds the files of the
// layers as they were merged, which is not the order of its manifest.
func TestCommitted(t *testing.T) {
	upper, mounts := testimage.CommittedLayers()
	for _, version := range []string{"5", "6"} {
		base := testimage.Convert(t, testimage.BuildOCI(t, pairSpec()), testimage.ConvertOptions{FSVersion: version})
		n := testimage.Commit(t, base, upper, mounts...)
		assertEqualPair(t, n)
	}
}

// TestChunkDict checks images whose manifest lists blobs of another image behind
// their own, since chunks of their files lie there.
func TestChunkDict(t *testing.T) {
	for _, version := range []string{"5", "6"} {
		spec := testimage.Odd(t)
		dictionary := testimage.Spec{Name: "dict", Layers: []testimage.Layer{spec.Layers[0], {testimage.Text("only-there", "x\n")}}}
		dict := testimage.Convert(t, testimage.BuildOCI(t, dictionary), testimage.ConvertOptions{FSVersion: version})
		n := testimage.ConvertWithDict(t, testimage.BuildOCI(t, spec), dict)
		images := assertEqualPair(t, n)
		require.Greater(t, len(images.Target.Layers), len(spec.Layers), "no data was shared")
	}
}

// assertEqualPair checks bootstrap and files of an image against its source.
func assertEqualPair(t *testing.T, n *testimage.Nydus) Images {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "layout")
	testimage.WriteLayout(t, dir, map[string]any{"oci": n.Source, "nydus": n})
	images := openPair(t, dir+":oci", dir+":nydus")
	var counts Counts
	bootstrap := checkBootstrap(t.Context(), images, Options{}, &counts)
	require.NoError(t, bootstrap.Err)
	assert.Empty(t, bootstrap.Differences)
	files := checkFilesystem(t.Context(), images, Options{}, &counts)
	require.NoError(t, files.Err)
	assert.Empty(t, files.Differences)
	return images
}
