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
	}
}
