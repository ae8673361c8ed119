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
	if testing.Short() {
		t.Skip("takes long")
	}
	for _, spec := range []func(testing.TB) testimage.Spec{
		testimage.Odd, testimage.Tiny, testimage.DebianApp, testimage.Upper, testimage.Links, testimage.FirstNameGone, manyLayers,
	} {
		s := spec(t)
		for _, form := range forms() {
			t.Run(s.Name+"/"+formName(form), func(t *testing.T) {
				var counts Counts
				result := checkFilesystem(t.Context(), pairOf(t, s, s, form), Options{}, &counts)
				require.NoError(t, result.Err)
				for _, d := range result.Differences {
					t.Error(d)
				}
				assert.Empty(t, result.Notes)
				assert.NotZero(t, counts.Paths)
				assert.NotZero(t, counts.Files)
				assert.NotZero(t, counts.FileBytes)
				assert.NotZero(t, counts.LayerBytes)
				assert.Zero(t, counts.BlobBytes)
			})
		}
	}
}

// unnamed has an upper layer that does not name the directories in which it puts
// something.
func unnamed(testing.TB) testimage.Spec {
	return testimage.Spec{Name: "unnamed", Layers: []testimage.Layer{
		{
			testimage.Dir("odd").WithMode(0o750).WithOwner(5, 6).WithXattr("user.odd", "yes"), testimage.Text("odd/lower", "x\n"),
			testimage.Dir("even"), testimage.Text("even/lower", "x\n"), testimage.Text("new/lower", "x\n"),
		},
		{testimage.Text("odd/upper", "x\n"), testimage.Text("even/upper", "x\n")},
	}}
}

// TestFindsWhatTheConverterLoses checks images of which nydus-image 2.2.0 makes
// something else.
func TestFindsWhatTheConverterLoses(t *testing.T) {
	lossy := []string{
		`"fifo-too": type is regular file, want FIFO`,
		`"owner": gid is 0, want 3000000001`, `"owner": uid is 0, want 3000000000`,
		`"time": mtime is 1970-01-01 00:00:00 +0000 UTC, want 1969-12-31 00:00:00 +0000 UTC`,
	}
	for _, test := range []struct {
		spec    func(testing.TB) testimage.Spec
		version string
		want    []string
	}{
		{testimage.Lossy, "5", append([]string{`"fifo": mode is 0600, want 0644`}, lossy...)},
		{testimage.Lossy, "6", append([]string{`"fifo": type is regular file, want FIFO`}, lossy...)},
		{testimage.WhiteoutInBase, "5", []string{`".wh.nothere": extra`}},
		{testimage.WhiteoutInBase, "6", []string{`".wh.nothere": extra`}},
		{unnamed, "5", unnamedLost}, {unnamed, "6", unnamedLost},
		// A path that comes twice in a layer, as a directory the second time.
		{replaced, "6", []string{
			`"b/x": extra`, `"dir": xattr user.one is none, want "1"`,
			`"file-then-dir": mode is 0644, want 0755`, `"file-then-dir": type is regular file, want directory`, `"file-then-dir/file": missing`,
			`"link-then-dir": mode is 0644, want 0755`, `"link-then-dir": type is regular file, want directory`, `"link-then-dir/own": missing`,
		}},
	} {
		s := test.spec(t)
		t.Run(s.Name+"/v"+test.version, func(t *testing.T) {
			result := checkFilesystem(t.Context(), pairOf(t, s, s, testimage.ConvertOptions{FSVersion: test.version}), Options{}, new(Counts))
			require.NoError(t, result.Err)
			var found []string
			for _, d := range result.Differences {
				found = append(found, d.String())
			}
			assert.Equal(t, test.want, found)
			assert.Empty(t, result.Notes)
		})
	}
}

// unnamedLost is what the converter makes of unnamed: a directory that a layer
// does not name becomes root's, with mode 0755.
var unnamedLost = []string{
	`"odd": gid is 0, want 6`, `"odd": mode is 0755, want 0750`, `"odd": uid is 0, want 5`, `"odd": xattr user.odd is none, want "yes"`,
}
