package consistency

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
)

// pairOf stores an OCI image of one spec and the Nydus image of another in a
// layout and opens both.
func pairOf(t testing.TB, source, target testimage.Spec, options testimage.ConvertOptions) Images {
	t.Helper()
	dir := t.TempDir()
	testimage.WriteLayout(t, dir, map[string]any{
		"oci":   testimage.BuildOCI(t, source),
		"nydus": testimage.Convert(t, testimage.BuildOCI(t, target), options),
	})
	return openPair(t, dir+":oci", dir+":nydus")
}

func openPair(t testing.TB, source, target string) Images {
	t.Helper()
	oci, err := nydusimage.OpenOCI(t.Context(), source, nydusimage.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, oci.Close()) })
	nydus, err := nydusimage.Open(t.Context(), target, nydusimage.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, nydus.Close()) })
	return Images{Source: oci, Target: nydus}
}

// forms are the ways in which converters write an image.
func forms() []testimage.ConvertOptions {
	var all []testimage.ConvertOptions
	for _, version := range []string{"5", "6"} {
		for _, compressor := range []string{"zstd", "lz4_block", "none"} {
			all = append(all, testimage.ConvertOptions{FSVersion: version, Compressor: compressor})
		}
		all = append(all,
			testimage.ConvertOptions{FSVersion: version, ChunkSize: 0x1000},
			testimage.ConvertOptions{FSVersion: version, ChunkSize: 0x400000, Digester: "sha256"})
	}
	return all
}

func formName(o testimage.ConvertOptions) string {
	name := "v" + o.FSVersion
	for _, part := range []string{o.Compressor, o.Digester} {
		if part != "" {
			name += "," + part
		}
	}
	return name
}

// TestEqualImages checks images that the converter keeps whole.
func TestEqualImages(t *testing.T) {
	for _, spec := range []func(testing.TB) testimage.Spec{testimage.Odd, testimage.Tiny, testimage.DebianApp} {
		for _, form := range forms() {
			s := spec(t)
			t.Run(s.Name+"/"+formName(form), func(t *testing.T) {
				images := pairOf(t, s, s, form)
				var counts Counts
				result := checkFilesystem(t.Context(), images, Options{}, &counts)
				require.NoError(t, result.Err)
				for _, d := range result.Differences {
					t.Error(d)
				}
				t.Log(counts, result.Notes, result.Elapsed)
			})
		}
	}
}
