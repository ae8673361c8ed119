package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
)

// The tests here hold the rows of docs/parity.md's table that are about
// findings: what differs, and that nothing else does.

// both scans an image with Trivy and its twin with the plugin.
func both(t *testing.T, registry *testregistry.Registry, spec testimage.Spec, tag string) (trivy, ours map[string]any) {
	t.Helper()
	repository := publish(t, registry, spec)
	return report(t, "trivy", append([]string{"image", "--cache-dir", cacheDir(t), repository + ":oci"}, allScanners...)...),
		report(t, "trivy-nydus", append([]string{"--cache-dir", cacheDir(t), repository + ":" + tag}, allScanners...)...)
}

// found lists what a report's results are about: packages, vulnerabilities and
// secrets, by where they are.
func found(report map[string]any) []string {
	var out []string
	for _, r := range list(report["Results"]) {
		result := r.(map[string]any)
		for kind, name := range map[string]string{"Packages": "ID", "Vulnerabilities": "VulnerabilityID", "Secrets": "RuleID"} {
			for _, f := range list(result[kind]) {
				finding := f.(map[string]any)
				place := strings.TrimPrefix(fmt.Sprint(result["Target"]), fmt.Sprint(report["ArtifactName"]))
				for _, path := range []string{"FilePath", "PkgPath"} {
					if p, ok := finding[path]; ok {
						place = fmt.Sprint(p)
					}
				}
				named := finding[name]
				if named == nil {
					named = finding["Name"] // jars have no ID
				}
				out = append(out, fmt.Sprintf("%s: %v %v", strings.TrimPrefix(place, "/"), named, finding["PkgName"]))
			}
		}
	}
	slices.Sort(out)
	return out
}

// without are the elements of a that are not in b, each as often as it is more.
func without(a, b []string) []string {
	left := slices.Clone(b)
	var out []string
	for _, x := range a {
		if i := slices.Index(left, x); i >= 0 {
			left = slices.Delete(left, i, i+1)
		} else {
			out = append(out, x)
		}
	}
	return out
}

// TestReleaseFileGone: Trivy still knows the operating system whose release file
// a later layer deletes. The plugin believes no hidden file about it, so there
// is none, and so no package of it.
func TestReleaseFileGone(t *testing.T) {
	registry := testregistry.Start(t)
	for _, tag := range []string{"v5", "v6"} {
		trivy, ours := both(t, registry, testimage.NoRelease(t), tag)
		require.NotZero(t, count(trivy, "Vulnerabilities"))
		assert.Equal(t, "debian", trivy["Metadata"].(map[string]any)["OS"].(map[string]any)["Family"])
		assert.Equal(t, map[string]any{"Family": "none", "Name": ""}, ours["Metadata"].(map[string]any)["OS"])
		assert.Empty(t, without(found(ours), found(trivy)))
	}
}

// TestReleaseFileReplaced: of two release files of Alpine Trivy believes the
// lower one, the plugin the one that the image shows.
func TestReleaseFileReplaced(t *testing.T) {
	registry := testregistry.Start(t)
	for _, tag := range []string{"v5", "v6"} {
		trivy, ours := both(t, registry, testimage.Upgraded(t), tag)
		release := func(report map[string]any) any {
			return report["Metadata"].(map[string]any)["OS"].(map[string]any)["Name"]
		}
		assert.Equal(t, "3.18.4", release(trivy))
		assert.Equal(t, "3.19.1", release(ours))
	}
}

// TestFirstNameGone: of a file with several names Trivy knows the first, and
// forgets what it found where that one is deleted. The plugin reports it under
// the first name that is left.
func TestFirstNameGone(t *testing.T) {
	registry := testregistry.Start(t)
	for _, tag := range []string{"v5", "v6"} {
		trivy, ours := both(t, registry, testimage.FirstNameGone(t), tag)
		theirs, more := found(trivy), without(found(ours), found(trivy))
		assert.Empty(t, without(theirs, found(ours)), "nothing that Trivy finds is missing")
		places := make(map[string]bool)
		for _, f := range more {
			place, _, _ := strings.Cut(f, ":")
			places[place] = true
		}
		assert.Equal(t, map[string]bool{testimage.LinkedApp[1]: true, testimage.LinkedJar[1]: true, testimage.LinkedSecret[1]: true}, places)
	}
}

// TestWithoutLayerBootstraps cuts the layers' bootstraps off. Everything that the
// image shows is found all the same; what later layers deleted or replaced is
// not, and a package counts to the layer whose data the image shows.
func TestWithoutLayerBootstraps(t *testing.T) {
	for _, version := range []string{"5", "6"} {
		t.Run("v"+version, func(t *testing.T) {
			oci := testimage.BuildOCI(t, testimage.DebianApp(t))
			theirs, dir := t.TempDir(), t.TempDir()
			nydus := testimage.Convert(t, oci, testimage.ConvertOptions{FSVersion: version})
			testimage.WriteLayout(t, theirs, map[string]any{"latest": oci})
			testimage.WriteLayout(t, dir, map[string]any{"latest": nydus})
			for _, b := range nydus.Blobs {
				cutTail(t, filepath.Join(dir, "blobs", b.Digest.Algorithm, b.Digest.Hex))
			}
			trivy := report(t, "trivy", append([]string{"image", "--cache-dir", cacheDir(t), "--input", theirs}, allScanners...)...)
			r := run(t, "trivy-nydus", append([]string{"--cache-dir", cacheDir(t), dir, "--format", "json", "--output", filepath.Join(dir, "report")}, allScanners...)...)
			require.Zero(t, r.code, r.stderr)
			assert.Contains(t, r.stderr, "carry no bootstrap of their own")
			ours := decode(t, filepath.Join(dir, "report"))

			assert.Empty(t, without(found(ours), found(trivy)))
			var missing []string
			for _, f := range without(found(trivy), found(ours)) {
				missing = append(missing, f[:strings.Index(f, ":")])
			}
			assert.Equal(t, []string{testimage.DeletedSecretPath}, slices.Compact(missing))
			refused := run(t, "trivy-nydus", append([]string{"--cache-dir", cacheDir(t), "--require-layers", dir}, allScanners...)...)
			assert.Equal(t, 2, refused.code)
		})
	}
}

// cutTail overwrites a blob's last tar header, by which its other parts are
// found. Its size stays.
func cutTail(t *testing.T, name string) {
	t.Helper()
	data, err := os.ReadFile(name)
	require.NoError(t, err)
	clear(data[len(data)-512:])
	require.NoError(t, os.Remove(name)) // may be a link to the cached blob
	require.NoError(t, os.WriteFile(name, data, 0o644))
}
