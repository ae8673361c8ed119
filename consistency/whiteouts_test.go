package consistency

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
)

// TestWhiteoutNamesOfLowestLayer: what survives in a Nydus image under the name of a
// whiteout is in no container of the OCI image, empty or not. (What lies below a
// directory of such a name is: only its own entry is taken for a whiteout.)
func TestWhiteoutNamesOfLowestLayer(t *testing.T) {
	for _, version := range []string{"5", "6"} {
		oci := testimage.BuildOCI(t, testimage.Whiteouts())
		dir := filepath.Join(t.TempDir(), "layout")
		testimage.WriteLayout(t, dir, map[string]any{"oci": oci, "nydus": testimage.Convert(t, oci, testimage.ConvertOptions{FSVersion: version})})
		var counts Counts
		result := checkFilesystem(t.Context(), openPair(t, dir+":oci", dir+":nydus"), Options{}, &counts)
		require.NoError(t, result.Err)
		for _, name := range []string{".wh.nothere", ".wh.content.env", ".wh.link", "etc/.wh..wh..opq"} {
			assert.Contains(t, fields(result), name+" extra", "v%s", version)
		}
	}
}
