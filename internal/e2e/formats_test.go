package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
)

// A form is an image and a twin of it whose data is stored in another way than
// converters do by default.
type form struct {
	name       string
	oci, nydus v1.Image
}

// push stores both images under a name of their own, as "oci" and "nydus".
func (f *form) push(t *testing.T, registry *testregistry.Registry) (repository string) {
	t.Helper()
	repository = registry.Host() + "/test/" + f.name
	testimage.Push(t, repository+":oci", f.oci)
	testimage.Push(t, repository+":nydus", f.nydus)
	return repository
}

// storedForms are the ways in which data is stored: in the OCI layers themselves
// (zran), in batches, encrypted.
func storedForms(t *testing.T) []form {
	t.Helper()
	var forms []form
	app := testimage.BuildOCI(t, testimage.DebianApp(t))
	for name, oci := range map[string]v1.Image{"zran": app, "zran-members": testimage.Members(t, app, 1_000_000)} {
		forms = append(forms, form{name, oci, testimage.Convert(t, oci, testimage.ConvertOptions{OCIRef: true})})
	}
	for _, name := range testimage.NewerForms() {
		forms = append(forms, form{name, testimage.Newer(t, "oci"), testimage.Newer(t, name)})
	}
	return forms
}

// TestSameReportOfStoredForms compares reports as TestSameReportAsTrivyImage does.
func TestSameReportOfStoredForms(t *testing.T) {
	registry := testregistry.Start(t)
	for _, f := range storedForms(t) {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			repository := f.push(t, registry)
			want := report(t, "trivy", append([]string{"image", "--cache-dir", cacheDir(t), repository + ":oci"}, everything...)...)
			for _, kind := range []string{"Packages", "Vulnerabilities", "Secrets"} {
				require.NotZero(t, count(want, kind), "Trivy finds no %s", kind)
			}
			got := report(t, "trivy-nydus", append([]string{"--require-layers", "--cache-dir", cacheDir(t), repository + ":nydus"}, everything...)...)
			assertSame(t, want, got)
		})
	}
}

// TestKeyBesideData: an encrypted image that holds its key is scanned with a
// warning, also when it is known already. --require-layers has nothing to refuse.
func TestKeyBesideData(t *testing.T) {
	const warning = "the image's data is encrypted, but the key lies beside it, in the bootstrap and at the end of 3 of 3 blobs: whoever can pull the image can read it"
	layout, cache := testimage.NewerLayout(t), cacheDir(t)
	for _, c := range []struct {
		tag    string
		cached bool
		warns  bool
	}{{"encrypted", false, true}, {"encrypted", true, true}, {"batch", false, false}} {
		file := filepath.Join(t.TempDir(), "evidence.json")
		r := run(t, "trivy-nydus", append([]string{"--require-layers", "--cache-dir", cache, "--evidence", file, layout + ":" + c.tag}, offline...)...)
		require.Zero(t, r.code, r.stderr)
		evidence := decode(t, file)["scan"].(map[string]any)
		assert.Equal(t, c.cached, evidence["filesRead"] == 0.0)
		assert.Equal(t, c.warns, strings.Contains(r.stderr, warning), r.stderr)
		if c.warns {
			assert.Equal(t, []any{warning}, evidence["warnings"])
		} else {
			assert.NotContains(t, evidence, "warnings")
		}
	}
}

// TestZranWithoutItsLayers: an image whose data is not where it refers to is not
// reported as if it were empty.
func TestZranWithoutItsLayers(t *testing.T) {
	oci := testimage.BuildOCI(t, testimage.Tiny(t))
	layout := t.TempDir()
	testimage.WriteLayout(t, layout, map[string]any{"nydus": testimage.Convert(t, oci, testimage.ConvertOptions{OCIRef: true})})
	refused(t, append([]string{"--cache-dir", cacheDir(t), layout}, offline...), "the blob is missing", "blobs/sha256/")
}
