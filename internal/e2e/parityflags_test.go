package e2e

import (
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

// Files that flags name; FILE/ in a flag stands for their folder.
var flagFiles = map[string]string{
	"ignore": "CVE-2021-44906\nCVE-2022-32149\ngithub-pat\nCVE-2023-38545 exp:2020-01-01\n",
	"ignore.yaml": `vulnerabilities:
  - id: CVE-2020-7598
    purls: ["pkg:npm/minimist@1.2.0"]
secrets:
  - id: github-pat
    paths: ["srv/app/deploy.env"]
`,
	"policy.rego": `package trivy
import rego.v1
default ignore := false
ignore if input.PkgName == "minimist"
ignore if input.RuleID == "github-pat"
`,
	"vex.json": `{
  "@context": "https://openvex.dev/ns/v0.2.0", "@id": "https://example.test/vex/1", "author": "test",
  "timestamp": "2024-01-02T03:04:05Z", "version": 1,
  "statements": [{
    "vulnerability": {"name": "CVE-2021-44906"},
    "products": [{"@id": "pkg:npm/minimist@1.2.0"}],
    "status": "not_affected", "justification": "vulnerable_code_not_in_execute_path"
  }]
}
`,
	"vex-image.json": `{
  "@context": "https://openvex.dev/ns/v0.2.0", "@id": "https://example.test/vex/2", "author": "test",
  "timestamp": "2024-01-02T03:04:05Z", "version": 1,
  "statements": [{
    "vulnerability": {"name": "CVE-2021-44906"},
    "products": [{"@id": "pkg:oci/upper", "subcomponents": [{"@id": "pkg:npm/minimist"}]}],
    "status": "not_affected", "justification": "vulnerable_code_not_in_execute_path"
  }]
}
`,
	"secret.yaml": "disable-rules: [github-pat]\nrules:\n  - id: hostname\n    category: general\n    title: Host\n    severity: LOW\n    regex: HOME_URL=\n",
	"checks/own.rego": `# METADATA
# title: Own check
# custom:
#   id: OWN-001
#   severity: LOW
#   input:
#     selector:
#     - type: kubernetes
package user.own
import rego.v1
deny contains res if {
	input.kind == "Pod"
	res := result.new("a pod", {})
}
`,
	// What --removed-pkgs looks the packages of "apk add" up in.
	"apk-3.18.json": `{
  "Package": {
    "openssl": {"Origin": "openssl", "Versions": {"3.1.2-r0": 1690000000, "3.1.4-r9": 1900000000}, "Dependencies": ["so:libcrypto.so.3"]},
    "libcrypto3": {"Origin": "openssl", "Versions": {"3.1.2-r0": 1690000000}},
    "yq": {"Origin": "yq", "Versions": {"4.33.3-r4": 1690000000}}
  },
  "Provide": {"SO": {"libcrypto.so.3": {"Package": "libcrypto3"}}, "Package": {}}
}`,
}

// TestSameReportWithFlags adds flags to a scan for everything. Each row must
// change Trivy's own report, else the row tests nothing.
func TestSameReportWithFlags(t *testing.T) {
	files := writeFiles(t, flagFiles)
	t.Setenv("FANAL_APK_INDEX_ARCHIVE_URL", "file://"+files+"apk-%s.json")
	registry := testregistry.Start(t)
	for _, image := range []struct {
		spec  func(testing.TB) testimage.Spec
		flags []string // one row each
	}{
		{testimage.DebianApp, []string{
			"--scanners license",
			"--pkg-types library",
			"--ignore-status will_not_fix",
			"--vuln-severity-source nvd",
			"--skip-files /var/lib/dpkg/status",
		}},
		{testimage.Upper, []string{
			"--list-all-pkgs=false",
			"--scanners vuln",
			"--pkg-types os",
			"--pkg-relationships root,direct",
			"--skip-files **/deploy.env --skip-files usr/sbin/gosu,usr/bin/replaced",
			"--skip-dirs usr/lib/node_modules,opt",
			"--skip-dirs **/app",
			"--severity HIGH,CRITICAL",
			"--ignore-unfixed",
			"--ignorefile FILE/ignore",
			"--ignorefile FILE/ignore --show-suppressed",
			"--ignorefile FILE/ignore.yaml --show-suppressed",
			"--ignore-policy FILE/policy.rego",
			"--vex FILE/vex.json --show-suppressed",
			"--vex FILE/vex-image.json",
			"--secret-config FILE/secret.yaml",
			"--license-full",
			"--license-full --license-confidence-level 0.1",
			"--ignored-licenses MIT,GPL-2.0-only",
			"--distro debian/11",
		}},
		{testimage.Links, []string{
			"--detection-priority comprehensive",
			"--skip-files " + testimage.LinkedApp[0], // and no other name of it
		}},
		{testimage.Alpine, []string{
			"--distro alpine/3.19",
			"--detection-priority comprehensive",
			"--removed-pkgs", // after a row whose results of layers are cached
			"--skip-files lib/apk/db/installed",
		}},
		{testimage.RPM, []string{
			"--detection-priority comprehensive",
			"--ignore-status will_not_fix",
			"--skip-dirs root/buildinfo",
		}},
		{testimage.NonRoot, []string{
			"--scanners vuln --image-config-scanners secret", // the secret scanner would look there by itself
			"--image-config-scanners misconfig",
			"--image-config-scanners misconfig --include-non-failures",
			"--file-patterns dockerfile:.*[.]build$",
			"--misconfig-scanners kubernetes",
			"--config-check FILE/checks --check-namespaces user",
			"--include-non-failures",
			"--ignorefile FILE/ignore",
		}},
		{testimage.Wheels, []string{
			"--license-full",
			"--skip-files **/METADATA",
			"--pkg-types os",
		}},
	} {
		spec := image.spec(t)
		repository := publish(t, registry, spec)
		t.Run(spec.Name, func(t *testing.T) {
			t.Parallel()
			caches := map[string]string{"v5": cacheDir(t), "v6": cacheDir(t)} // one for all rows
			plain := report(t, "trivy", append([]string{"image", "--cache-dir", cacheDir(t), repository + ":oci"}, allScanners...)...)
			for i, row := range image.flags {
				tag := []string{"v5", "v6"}[i%2] // flags know nothing of RAFS
				t.Run(row+" "+tag, func(t *testing.T) {
					args := slices.Concat(allScanners, strings.Fields(strings.ReplaceAll(row, "FILE/", files)))
					if i := slices.Index(args, "--scanners"); strings.HasPrefix(row, "--scanners ") {
						args = slices.Delete(args, i, i+2) // the flag would add to it
					}
					want := report(t, "trivy", append([]string{"image", "--cache-dir", cacheDir(t), repository + ":oci"}, args...)...)
					require.NotEqual(t, normalized(t, plain), normalized(t, want), "the flag changes nothing")
					got := report(t, "trivy-nydus", append([]string{"--cache-dir", caches[tag], repository + ":" + tag}, args...)...)
					assertSame(t, want, got)
				})
			}
		})
	}
}

// writeFiles writes files into a new folder and returns it, with a slash.
func writeFiles(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(content), 0o644))
	}
	return dir + "/"
}

// TestSameRefusals are flags with which trivy image gives no report. The plugin
// gives none either, and its own exit code.
func TestSameRefusals(t *testing.T) {
	registry := testregistry.Start(t)
	repository := publish(t, registry, testimage.Tiny(t))
	for _, test := range []struct {
		flags, says string
	}{
		{"--max-image-size 10KB", "exceeds maximum allowed size"},
		// Compressed it fits, unpacked it does not.
		{"--max-image-size 400KB", "exceeds maximum allowed size"},
		{"--include-dev-deps", "include-dev-deps"},
		{"--ignore-policy /no/such/file", "/no/such/file"},
		{"--vex /no/such/file", "/no/such/file"},
		{"--scanners nothing", "nothing"},
	} {
		t.Run(test.flags, func(t *testing.T) {
			output := filepath.Join(t.TempDir(), "report")
			args := slices.Concat(offline, strings.Fields(test.flags), []string{"--format", "json", "--output", output})
			theirs := run(t, "trivy", append([]string{"image", "--cache-dir", cacheDir(t), repository + ":oci"}, args...)...)
			assert.Equal(t, 1, theirs.code)
			assert.Contains(t, theirs.stderr, test.says)
			for _, tag := range []string{"v5", "v6"} {
				ours := run(t, "trivy-nydus", append([]string{"--cache-dir", cacheDir(t), repository + ":" + tag}, args...)...)
				assert.Equal(t, 2, ours.code, ours.stderr)
				assert.Contains(t, ours.stderr, test.says)
			}
			assert.NoFileExists(t, output)
		})
	}
}
