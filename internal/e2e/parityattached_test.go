package e2e

import (
	"path/filepath"
	"slices"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
)

// TestSameReportFromAttachedSBOM attaches an SBOM with a package that the image
// does not hold to the OCI image and to its twins: it is scanned instead of them.
func TestSameReportFromAttachedSBOM(t *testing.T) {
	registry := testregistry.Start(t)
	with, without := publish(t, registry, testimage.Tiny(t)), publish(t, registry, testimage.SecretCmd(t))
	for _, tag := range []string{"oci", "v5", "v6"} {
		testimage.Attach(t, with+":"+tag, "application/vnd.cyclonedx+json", []byte(attachedSBOM))
	}
	args := append(slices.Clone(allScanners), "--sbom-sources", "oci")
	for _, test := range []struct {
		repository string
		attached   bool
	}{{with, true}, {without, false}} {
		want := report(t, "trivy", append([]string{"image", "--cache-dir", cacheDir(t), test.repository + ":oci"}, args...)...)
		if test.attached {
			require.Equal(t, "cyclonedx", want["ArtifactType"], "Trivy finds the SBOM")
			require.NotZero(t, count(want, "Vulnerabilities"))
		} else {
			require.Equal(t, "container_image", want["ArtifactType"])
		}
		for _, tag := range []string{"v5", "v6"} {
			evidence := filepath.Join(t.TempDir(), "evidence.json")
			got := report(t, "trivy-nydus", append([]string{"--cache-dir", cacheDir(t), "--evidence", evidence, test.repository + ":" + tag}, args...)...)
			assertSame(t, want, got)
			assert.Equal(t, test.attached, decode(t, evidence)["scan"].(map[string]any)["sbom"] == "cyclonedx")
		}
	}
}

const attachedSBOM = `{
  "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
  "serialNumber": "urn:uuid:3e671687-395b-41f5-a30f-a58921a69b79",
  "metadata": {"component": {"bom-ref": "app", "type": "application", "name": "app"}},
  "components": [
    {"bom-ref": "pkg:npm/lodash@4.17.20", "type": "library", "name": "lodash", "version": "4.17.20", "purl": "pkg:npm/lodash@4.17.20"}
  ]
}`

// TestSameReportOfPlatform chooses among the platforms of an index. The OCI
// images in it begin with a layer more than their sources, as converters leave
// it: what the index holds is scanned by Trivy as well.
func TestSameReportOfPlatform(t *testing.T) {
	arm := testimage.Tiny(t)
	arm.Name = "tiny-arm"
	arm.Platform = v1.Platform{OS: "linux", Architecture: "arm64"}
	arm.Layers = append(slices.Clone(arm.Layers), testimage.NodeLayer(t, "lodash@4.17.20"))
	registry := testregistry.Start(t)
	sources := make(map[string]string) // of each platform
	var pairs []testimage.Pair
	for platform, spec := range map[string]testimage.Spec{"linux/amd64": testimage.Tiny(t), "linux/arm64": arm} {
		oci := testimage.BuildOCI(t, spec)
		sources[platform] = registry.Host() + "/test/" + spec.Name + ":oci"
		testimage.Push(t, sources[platform], oci)
		pairs = append(pairs, testimage.Pair{OCI: oci, Nydus: testimage.Convert(t, oci, testimage.ConvertOptions{})})
	}
	for form, tag := range map[testimage.IndexForm]string{testimage.ByArtifactType: "type", testimage.ByOSFeature: "feature"} {
		index := registry.Host() + "/test/index:" + tag
		testimage.Push(t, index, testimage.Index(t, form, pairs...))
		cache := cacheDir(t)
		for platform, source := range sources {
			t.Run(tag+" "+platform, func(t *testing.T) {
				want := report(t, "trivy", append([]string{"image", "--cache-dir", cacheDir(t), "--platform", platform, source}, allScanners...)...)
				require.Equal(t, filepath.Base(platform), config(want)["architecture"])
				got := report(t, "trivy-nydus", append([]string{"--cache-dir", cache, "--platform", platform, index}, allScanners...)...)
				assertSame(t, want, got)
			})
		}
		theirs := run(t, "trivy", append([]string{"image", "--cache-dir", cache, "--platform", "linux/s390x", index}, offline...)...)
		ours := run(t, "trivy-nydus", append([]string{"--cache-dir", cache, "--platform", "linux/s390x", index}, offline...)...)
		assert.Equal(t, []int{1, 2}, []int{theirs.code, ours.code}, "no such platform")
	}
}

func config(report map[string]any) map[string]any {
	return report["Metadata"].(map[string]any)["ImageConfig"].(map[string]any)
}

// TestSameReportOfLayout scans the same image in an OCI layout, as trivy image
// --input does: without a registry there are no tags and digests to report.
func TestSameReportOfLayout(t *testing.T) {
	oci := testimage.BuildOCI(t, testimage.Tiny(t))
	theirs, ours := t.TempDir(), t.TempDir()
	testimage.WriteLayout(t, theirs, map[string]any{"latest": oci})
	testimage.WriteLayout(t, ours, map[string]any{"latest": testimage.Convert(t, oci, testimage.ConvertOptions{})})
	want := report(t, "trivy", append([]string{"image", "--cache-dir", cacheDir(t), "--input", theirs}, allScanners...)...)
	require.NotZero(t, count(want, "Vulnerabilities"))
	for _, args := range [][]string{{"--input", ours}, {ours}} {
		assertSame(t, want, report(t, "trivy-nydus", slices.Concat([]string{"--cache-dir", cacheDir(t)}, args, allScanners)...))
	}
}
