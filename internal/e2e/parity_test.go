package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/pmezard/go-difflib/difflib"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
)

// everything are the scanners, and the flags that add most to a report.
var everything = slices.Concat(allScanners, []string{"--image-config-scanners", "misconfig,secret"})

// parityImages are the images whose reports are compared, and what Trivy itself
// must find in them, so that there is something to compare.
var parityImages = []struct {
	spec     func(testing.TB) testimage.Spec
	expected []string
}{
	{testimage.Debian, []string{"Packages", "Vulnerabilities", "Licenses"}},
	{testimage.DebianApp, []string{"Packages", "Vulnerabilities", "Secrets", "Licenses"}},
	{testimage.SecretCmd, []string{"Secrets"}},
	{testimage.Odd, nil},
	{testimage.Tiny, []string{"Packages", "Vulnerabilities", "Secrets"}},
	{testimage.Wheels, []string{"Packages", "Vulnerabilities", "Licenses"}},
	{testimage.Alpine, []string{"Packages", "Vulnerabilities"}},
	{testimage.RPM, []string{"Packages", "Vulnerabilities"}},
	{testimage.NonRoot, []string{"Packages", "Secrets", "Misconfigurations"}},
	{testimage.Upper, []string{"Packages", "Vulnerabilities", "Secrets"}},
	{testimage.Links, []string{"Packages", "Vulnerabilities", "Secrets"}},
	{testimage.Seldom, []string{"Packages", "Misconfigurations"}},
}

// TestSameReportAsTrivyImage scans an image and a child of it with Trivy, and
// their Nydus twins with the plugin: each alone, and each after the other with
// one cache. It compares the JSON reports whole but for what docs/parity.md
// lists.
func TestSameReportAsTrivyImage(t *testing.T) {
	registry := testregistry.Start(t)
	for _, image := range parityImages {
		parent := image.spec(t)
		t.Run(parent.Name, func(t *testing.T) {
			t.Parallel()
			specs := []testimage.Spec{parent, child(t, parent)}
			var repositories []string
			var want []map[string]any
			for _, s := range specs {
				r := publish(t, registry, s)
				repositories = append(repositories, r)
				want = append(want, report(t, "trivy", append([]string{"image", "--cache-dir", cacheDir(t), r + ":oci"}, everything...)...))
			}
			for _, kind := range image.expected {
				require.NotZero(t, count(want[0], kind), "Trivy finds no %s", kind)
			}
			for _, tag := range []string{"v5", "v6"} {
				for _, order := range [][]int{{0, 1}, {1, 0}} {
					cache := cacheDir(t)
					for nth, i := range order {
						t.Run(fmt.Sprintf("%s of %s, %d in cache", tag, specs[i].Name, nth), func(t *testing.T) {
							got := report(t, "trivy-nydus", append([]string{"--cache-dir", cache, repositories[i] + ":" + tag}, everything...)...)
							assertSame(t, want[i], got)
						})
					}
				}
			}
		})
	}
}

// child is an image on top of another, whose layers are those of a base image by
// its history.
func child(t *testing.T, parent testimage.Spec) testimage.Spec {
	t.Helper()
	config, err := testimage.BuildOCI(t, parent).ConfigFile()
	require.NoError(t, err)
	s := parent
	s.Name += "-child"
	s.Layers = append(slices.Clone(parent.Layers), testimage.Join(
		testimage.NodeLayer(t, "minimist@1.2.6"),
		testimage.Layer{testimage.SecretFile("srv/child/token.env"), testimage.Text("srv/child/note", "nothing to hide\n")},
	).WithParents())
	s.History = append(slices.Clone(config.History),
		v1.History{Created: v1.Time{Time: testimage.DefaultTime}, CreatedBy: "COPY child / # buildkit"},
		testimage.EmptyHistory(`CMD ["child"]`))
	return s
}

// count is how many findings of a kind a report has.
func count(report map[string]any, kind string) int {
	n := 0
	for _, result := range list(report["Results"]) {
		n += len(list(result.(map[string]any)[kind]))
	}
	return n
}

// assertSame compares two reports whole, but for what docs/parity.md lists.
func assertSame(t *testing.T, want, got map[string]any) {
	t.Helper()
	assertSameText(t, normalized(t, want), normalized(t, got))
}

// assertSameText shows where two texts differ.
func assertSameText(t *testing.T, want, got string) {
	t.Helper()
	if want == got {
		return
	}
	diff, err := difflib.GetUnifiedDiffString(difflib.UnifiedDiff{
		A: difflib.SplitLines(want), B: difflib.SplitLines(got), FromFile: "trivy image", ToFile: "trivy nydus", Context: 3,
	})
	require.NoError(t, err)
	t.Error(diff[:min(len(diff), 8<<10)])
}

func list(v any) []any { l, _ := v.([]any); return l }

// layerNames maps the layers' digests and diff IDs to their place.
func layerNames(report map[string]any) map[string]string {
	names := make(map[string]string)
	metadata, _ := report["Metadata"].(map[string]any)
	for i, layer := range list(metadata["Layers"]) {
		l := layer.(map[string]any)
		names[fmt.Sprint(l["DiffID"])] = fmt.Sprintf("layer %d", i)
		names[fmt.Sprint(l["Digest"])] = fmt.Sprintf("layer %d", i)
	}
	delete(names, "<nil>") // a layer without files has no row of its own digest
	return names
}

// normalized spells a report without what belongs to the image itself.
func normalized(t *testing.T, report map[string]any) string {
	t.Helper()
	layers := layerNames(report)
	image := fmt.Sprint(report["ArtifactName"])
	var walk func(v any) any
	walk = func(v any) any {
		switch v := v.(type) {
		case map[string]any:
			out := make(map[string]any, len(v))
			for key, value := range v {
				switch key {
				case "ReportID", "CreatedAt", "ArtifactName", "ArtifactID", "Fingerprint",
					"ImageID", "RepoTags", "RepoDigests", "Size", "diff_ids":
					continue
				}
				out[key] = walk(value)
			}
			return out
		case []any:
			out := make([]any, len(v))
			for i := range v {
				out[i] = walk(v[i])
			}
			return out
		case string:
			if name, ok := layers[v]; ok {
				return name
			}
			return strings.ReplaceAll(v, image, "IMAGE")
		}
		return v
	}
	return spelled(t, walk(report))
}
