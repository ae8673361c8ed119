package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pmezard/go-difflib/difflib"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
)

// TestSameReportAsTrivyImage scans an image with Trivy and its Nydus twins with
// the plugin, with every scanner, and compares the JSON reports whole but for
// what docs/parity.md lists.
func TestSameReportAsTrivyImage(t *testing.T) {
	registry := testregistry.Start(t)
	all := append(slices.Clone(offline), "--scanners", "vuln,secret,misconfig,license", "--list-all-pkgs",
		"--image-config-scanners", "misconfig,secret")
	for _, spec := range []func(testing.TB) testimage.Spec{testimage.Debian, testimage.DebianApp, testimage.SecretCmd, testimage.Odd, testimage.Tiny} {
		s := spec(t)
		repository := publish(t, registry, s)
		want := report(t, "trivy", append([]string{"image", "--cache-dir", cacheDir(t), repository + ":oci"}, all...)...)
		checkExpected(t, s.Name, want)
		for _, tag := range []string{"v5", "v6"} {
			t.Run(s.Name+"/"+tag, func(t *testing.T) {
				got := report(t, "trivy-nydus", append([]string{"--cache-dir", cacheDir(t), repository + ":" + tag}, all...)...)
				assertSame(t, want, got)
			})
		}
	}
}

// checkExpected makes sure that there is something to be found, by Trivy itself.
func checkExpected(t *testing.T, name string, report map[string]any) {
	t.Helper()
	counts := make(map[string]int)
	for _, result := range list(report["Results"]) {
		for _, kind := range []string{"Packages", "Vulnerabilities", "Secrets", "Misconfigurations", "Licenses"} {
			counts[kind] += len(list(result.(map[string]any)[kind]))
		}
	}
	expected := map[string][]string{
		"debian":     {"Packages", "Vulnerabilities", "Licenses"},
		"debian-app": {"Packages", "Vulnerabilities", "Secrets", "Licenses"},
		"secret-cmd": {"Secrets"},
		"tiny":       {"Packages", "Vulnerabilities", "Secrets"},
	}
	for _, kind := range expected[name] {
		require.NotZero(t, counts[kind], "Trivy finds no %s in %s", kind, name)
	}
}

// assertSame compares two reports whole, but for what docs/parity.md lists.
func assertSame(t *testing.T, want, got map[string]any) {
	t.Helper()
	a, b := normalized(t, want, layerNames(want)), normalized(t, got, layerNames(got))
	if a == b {
		return
	}
	diff, err := difflib.GetUnifiedDiffString(difflib.UnifiedDiff{
		A: difflib.SplitLines(a), B: difflib.SplitLines(b), FromFile: "trivy image", ToFile: "trivy nydus", Context: 3,
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
func normalized(t *testing.T, report map[string]any, layers map[string]string) string {
	t.Helper()
	image := fmt.Sprint(report["ArtifactName"])
	var walk func(v any) any
	walk = func(v any) any {
		switch v := v.(type) {
		case map[string]any:
			out := make(map[string]any, len(v))
			for key, value := range v {
				switch key {
				case "ReportID", "CreatedAt", "ArtifactName", "ArtifactID", "Fingerprint",
					"ImageID", "RepoTags", "RepoDigests", "Reference", "Size", "diff_ids", "PkgRef":
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
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetIndent("", " ")
	require.NoError(t, encoder.Encode(walk(report)))
	return out.String()
}
