package e2e

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
)

// TestSameDocuments compares the formats that other tools read, whole but for
// what belongs to the image itself, and looks for the properties of a container
// image in them.
func TestSameDocuments(t *testing.T) {
	registry := testregistry.Start(t)
	repository := publish(t, registry, testimage.DebianApp(t))
	for _, test := range []struct {
		format, scanners string
		// says are facts of the image; DIGEST stands for its manifest's.
		says []string
	}{
		{"cyclonedx", "vuln,license", []string{
			`"pkg:oci/debian-app@sha256:DIGEST?arch=amd64&repository_url=` + registry.Host() + `%2Ftest%2Fdebian-app"`,
			`"container"`, `"aquasecurity:trivy:RepoDigest"`, `"aquasecurity:trivy:ImageID"`, `"aquasecurity:trivy:DiffID"`,
		}},
		{"spdx-json", "vuln,license", []string{
			`"pkg:oci/debian-app@sha256:DIGEST?arch=amd64&repository_url=` + registry.Host() + `%2Ftest%2Fdebian-app"`,
			`"CONTAINER"`, `RepoDigest: `, `ImageID: `,
		}},
		{"sarif", "vuln,secret", []string{`"imageName"`, `"imageID"`, `"repoTags"`, `test/debian-app@sha256:DIGEST"`}},
		{"github", "vuln", []string{`"aquasecurity:trivy:RepoDigest"`, `"aquasecurity:trivy:RepoTag"`, `test/debian-app@sha256:DIGEST`}},
	} {
		t.Run(test.format, func(t *testing.T) {
			t.Parallel()
			scan := func(command []string, reference string) any {
				file := filepath.Join(t.TempDir(), "document")
				r := run(t, command[0], slices.Concat(command[1:], offline, []string{"--cache-dir", cacheDir(t),
					"--scanners", test.scanners, "--format", test.format, "--output", file, reference})...)
				require.Zero(t, r.code, r.stderr)
				data, err := os.ReadFile(file)
				require.NoError(t, err)
				var document any
				require.NoError(t, json.Unmarshal(data, &document))
				return document
			}
			want := scan([]string{"trivy", "image"}, repository+":oci")
			for _, tag := range []string{"v5", "v6"} {
				got := scan([]string{"trivy-nydus"}, repository+":"+tag)
				assertSameText(t, comparableText(t, want, repository+":oci"), comparableText(t, got, repository+":"+tag))
				text := spelled(t, got)
				for _, fact := range test.says {
					fact = strings.ReplaceAll(fact, "DIGEST", manifestDigest(t, repository+":"+tag))
					assert.True(t, strings.Contains(text, fact), "%s is not in the document, but %q", fact, regexp.MustCompile(`pkg:oci[^"]*`).FindString(text))
				}
			}
		})
	}
}

// TestTrivyReadsOurSBOM gives the SBOM of a Nydus image to trivy sbom: it must be
// valid, and hold what it takes to find the same vulnerabilities.
func TestTrivyReadsOurSBOM(t *testing.T) {
	registry := testregistry.Start(t)
	repository := publish(t, registry, testimage.DebianApp(t))
	want := report(t, "trivy", append([]string{"image", "--cache-dir", cacheDir(t), "--scanners", "vuln", repository + ":oci"}, offline...)...)
	require.NotZero(t, count(want, "Vulnerabilities"))
	for _, format := range []string{"cyclonedx", "spdx-json", "spdx"} {
		file := filepath.Join(t.TempDir(), "sbom")
		r := run(t, "trivy-nydus", append([]string{"--cache-dir", cacheDir(t), "--format", format, "--output", file, repository + ":v6"}, offline...)...)
		require.Zero(t, r.code, r.stderr)
		got := report(t, "trivy", "sbom", "--cache-dir", cacheDir(t), "--offline-scan", "--skip-db-update", "--skip-java-db-update",
			"--skip-version-check", "--disable-telemetry", file)
		assert.Equal(t, vulnerabilities(want), vulnerabilities(got), format)
	}
}

// vulnerabilities are the IDs with packages and versions.
func vulnerabilities(report map[string]any) []string {
	var out []string
	for _, r := range list(report["Results"]) {
		for _, f := range list(r.(map[string]any)["Vulnerabilities"]) {
			v := f.(map[string]any)
			out = append(out, v["VulnerabilityID"].(string)+" "+v["PkgName"].(string)+" "+v["InstalledVersion"].(string))
		}
	}
	slices.Sort(out)
	return out
}

func manifestDigest(t *testing.T, reference string) string {
	t.Helper()
	parsed, err := name.ParseReference(reference)
	require.NoError(t, err)
	head, err := remote.Head(parsed)
	require.NoError(t, err)
	return head.Digest.Hex
}

// identity replaces what names an image and its layers.
func identity(t *testing.T, reference string) *strings.Replacer {
	t.Helper()
	parsed, err := name.ParseReference(reference)
	require.NoError(t, err)
	img, err := remote.Image(parsed)
	require.NoError(t, err)
	manifest, err := img.Manifest()
	require.NoError(t, err)
	config, err := img.ConfigFile()
	require.NoError(t, err)
	pairs := []string{reference, "IMAGE", manifestDigest(t, reference), "MANIFEST", manifest.Config.Digest.Hex, "CONFIG"}
	for i, l := range manifest.Layers {
		layer := "LAYER" + string(rune('A'+i))
		pairs = append(pairs, l.Digest.Hex, layer, config.RootFS.DiffIDs[i].Hex, layer)
	}
	return strings.NewReplacer(pairs...)
}

// Keys of what is new in every document.
var newEachTime = []string{"serialNumber", "timestamp", "documentNamespace", "created", "annotationDate", "scanned"}

// comparableText spells a document without what belongs to the image itself or is
// new each time: with the names of the image and its layers replaced, IDs of
// elements replaced by a hash of what the elements say, and lists, whose order follows
// the IDs, sorted.
func comparableText(t *testing.T, document any, reference string) string {
	t.Helper()
	names := identity(t, reference)
	plain := cleaned(document, names, nil)
	ids := make(map[string]string)
	collectIDs(t, plain, ids)
	return spelled(t, cleaned(plain, names, ids))
}

// cleaned copies a document. An ID that ids does not know stays.
func cleaned(v any, names *strings.Replacer, ids map[string]string) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, value := range v {
			if !slices.Contains(newEachTime, key) {
				if key == "purl" && ids != nil { // may be the element's ID as well
					out[key] = value
					continue
				}
				out[names.Replace(key)] = cleaned(value, names, ids)
			}
		}
		if out["name"] == "aquasecurity:trivy:Size" {
			out["value"] = "SIZE"
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = cleaned(v[i], names, ids)
		}
		slices.SortFunc(out, func(a, b any) int { return strings.Compare(line(a), line(b)) })
		return out
	case string:
		if id, ok := ids[v]; ok {
			return id
		}
		if strings.HasPrefix(v, "Size: ") {
			return "SIZE"
		}
		return names.Replace(v)
	}
	return v
}

// collectIDs maps the ID of each element of a CycloneDX or SPDX document to a
// hash of what the element says.
func collectIDs(t *testing.T, v any, ids map[string]string) {
	t.Helper()
	switch v := v.(type) {
	case map[string]any:
		for _, key := range []string{"bom-ref", "SPDXID"} {
			if id, ok := v[key].(string); ok && id != "SPDXRef-DOCUMENT" {
				says := maps.Clone(v)
				delete(says, key)
				ids[id] = fmt.Sprintf("ID %x", sha256.Sum256([]byte(line(says))))
			}
		}
		for _, value := range v {
			collectIDs(t, value, ids)
		}
	case []any:
		for _, value := range v {
			collectIDs(t, value, ids)
		}
	}
}

func line(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // it was read from JSON
	}
	return string(data)
}

// spelled is a document as indented JSON, with & and > as they are.
func spelled(t *testing.T, v any) string {
	t.Helper()
	var out strings.Builder
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", " ")
	require.NoError(t, encoder.Encode(v))
	return out.String()
}
