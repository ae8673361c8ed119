//go:build linux

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
)

// inFolder are the flags that say that the data lies in a folder.
func inFolder(dir string) []string {
	return []string{"--backend-type", "localfs", "--backend-config", fmt.Sprintf(`{"dir":%q}`, dir)}
}

// publishBootstrap pushes an image whose blobs a converter has stored in a
// backend, as tag bare, and returns the folder of the blobs.
func publishBootstrap(t testing.TB, repository string, spec testimage.Spec, version string) string {
	t.Helper()
	converted := testimage.Convert(t, testimage.BuildOCI(t, spec), testimage.ConvertOptions{FSVersion: version})
	testimage.Push(t, repository+":whole", converted)
	testimage.Push(t, repository+":bare", testimage.OnlyBootstrap(t, converted, nil))
	return converted.BlobDir
}

// TestBackendSameFindings scans an image whose manifest has the bootstrap alone.
// Its report has what the image shows, as docs/parity.md says, each in the layer
// of the blob that holds it.
func TestBackendSameFindings(t *testing.T) {
	nydusd := throughNydusd(t)
	dir := ownTemp(t)
	registry := testregistry.Start(t)
	repository := publish(t, registry, testimage.DebianApp(t))
	trivy := report(t, "trivy", append([]string{"image", "--cache-dir", cacheDir(t), repository + ":oci"}, allScanners...)...)
	for _, version := range []string{"5", "6"} {
		t.Run("v"+version, func(t *testing.T) {
			blobs := publishBootstrap(t, repository, testimage.DebianApp(t), version)
			cache, evidence := cacheDir(t), filepath.Join(t.TempDir(), "evidence.json")
			scan := func(tag string, flags ...string) map[string]any {
				return report(t, "trivy-nydus", slices.Concat([]string{"--cache-dir", cache, "--evidence", evidence, repository + ":" + tag}, allScanners, flags)...)
			}
			bare := scan("bare", slices.Concat(nydusd, inFolder(blobs))...)
			assert.Empty(t, without(found(bare), found(trivy)))
			var missing []string
			for _, f := range without(found(trivy), found(bare)) {
				missing = append(missing, f[:strings.Index(f, ":")])
			}
			assert.Equal(t, []string{testimage.DeletedSecretPath}, slices.Compact(missing), "what later layers deleted")

			perBlob := list(decode(t, evidence)["scan"].(map[string]any)["slices"])
			assert.Len(t, perBlob, 4, "one a blob")
			for _, slice := range perBlob {
				blob := strings.TrimPrefix(slice.(map[string]any)["blob"].(string), "sha256:")
				assert.FileExists(t, filepath.Join(blobs, blob))
			}
			// All is in the cache now.
			again := scan("bare", append([]string{"--mount", "nydusd", "--nydusd", "/nowhere/nydusd"}, inFolder(blobs)...)...)
			assertSame(t, bare, again)
			if version == "6" {
				// But not what another place gives, since nobody verifies it.
				refused(t, slices.Concat([]string{"--cache-dir", cache}, allScanners, nydusd, inFolder(t.TempDir()), []string{repository + ":bare"}), "nydusd")
			}
			// The layers of the whole image are the same blobs.
			whole := scan("whole", nydusd...)
			assertSameText(t, withoutBuild(t, whole), withoutBuild(t, bare))
		})
	}
	assertNothingLeft(t, dir)
}

// TestBackendShortIDs scans an image whose blobs have IDs of one letter. Trivy's table shows
// the first twelve of a layer's diff ID.
func TestBackendShortIDs(t *testing.T) {
	nydusd := throughNydusd(t)
	converted := *testimage.Convert(t, testimage.BuildOCI(t, testimage.Tiny(t)), testimage.ConvertOptions{FSVersion: "6"})
	archive, err := os.ReadFile(converted.BootstrapTar)
	require.NoError(t, err)
	entries, err := os.ReadDir(converted.BlobDir)
	require.NoError(t, err)
	blobs := t.TempDir()
	for i, e := range entries {
		short := string(rune('a' + i))
		require.NoError(t, os.Symlink(filepath.Join(converted.BlobDir, e.Name()), filepath.Join(blobs, short)))
		// Names in the archive, of which its checksums are, hold the ID as well, before ".blob.meta".
		padded := short + strings.Repeat("\x00", len(e.Name())-1)
		archive = regexp.MustCompile("(?s)"+e.Name()+"([^.])").ReplaceAll(archive, []byte(padded+"$1"))
	}
	converted.BootstrapTar = filepath.Join(t.TempDir(), "bootstrap.tar")
	require.NoError(t, os.WriteFile(converted.BootstrapTar, archive, 0o600))
	reference := testregistry.Start(t).Host() + "/test/tiny:short"
	testimage.Push(t, reference, testimage.OnlyBootstrap(t, &converted, nil))

	r := run(t, "trivy-nydus", slices.Concat(scanFlags, nydusd, inFolder(blobs), []string{"--cache-dir", t.TempDir(), reference})...)
	require.Zero(t, r.code, r.stderr)
	assert.Contains(t, r.stdout, "/"+testimage.SecretPath)
	assert.Contains(t, r.stdout, "(added in layer '")
}

// withoutBuild spells a report without what the config says of how the image was
// built, and without the order of layers: converters keep neither where they
// store blobs in a backend.
func withoutBuild(t *testing.T, report map[string]any) string {
	t.Helper()
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			delete(v, "CreatedBy")
			for _, value := range v {
				walk(value)
			}
		case []any:
			for _, value := range v {
				walk(value)
			}
		}
	}
	walk(report)
	metadata := report["Metadata"].(map[string]any)
	delete(metadata, "ImageConfig")
	delete(metadata, "DiffIDs")
	delete(metadata, "Layers")
	return normalized(t, report)
}

// TestBackendIsNamed: without the user's word on where the data lies nothing is
// read, and it is said what to do.
func TestBackendIsNamed(t *testing.T) {
	nydusd := throughNydusd(t)
	dir := ownTemp(t)
	repository := testregistry.Start(t).Host() + "/test/tiny"
	blobs := publishBootstrap(t, repository, testimage.Tiny(t), "6")
	bare := repository + ":bare"
	point := t.TempDir()
	for _, c := range []struct {
		name  string
		args  []string
		words []string
		hint  string
	}{
		{"natively", append(slices.Clone(scanFlags), bare), []string{"a backend of its own", "the manifest lists no data blobs", "not read natively"}, "with --mount nydusd, --backend-type and --backend-config-file"},
		{"through nydusd, which is not even looked for", append([]string{"--mount", "nydusd", "--nydusd", "/nowhere/nydusd", bare}, scanFlags...),
			[]string{"a backend of its own", "none was named"}, "with --mount nydusd, --backend-type and --backend-config-file"},
		{"mounted", []string{"mount", "--nydusd", "/nowhere/nydusd", bare, point},
			[]string{"a backend of its own", "none was named"}, "with --backend-type and --backend-config-file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := run(t, "trivy-nydus", c.args...)
			assert.Equal(t, 2, r.code)
			assert.Empty(t, r.stdout)
			for _, word := range append(c.words, "\nhint: say where the data lies, "+c.hint+"\n") {
				assert.Contains(t, r.stderr, word)
			}
		})
	}
	t.Run("a folder that lacks the blobs", func(t *testing.T) {
		refused(t, slices.Concat(nydusd, inFolder(t.TempDir()), []string{bare}), "nydusd")
	})
	t.Run("natively, though a backend is named", func(t *testing.T) {
		refused(t, append(inFolder(blobs), bare), "add --mount nydusd")
	})
	t.Run("--require-layers", func(t *testing.T) {
		refused(t, slices.Concat(nydusd, inFolder(blobs), []string{"--require-layers", bare}), "--require-layers")
	})
	assertNothingLeft(t, dir)
}

// TestMountCommandBackend mounts an image whose data lies in a folder.
func TestMountCommandBackend(t *testing.T) {
	nydusd := throughNydusd(t)[2:]
	dir, point := ownTemp(t), t.TempDir()
	repository := testregistry.Start(t).Host() + "/test/tiny"
	blobs := publishBootstrap(t, repository, testimage.Tiny(t), "6")
	p := prepare(t, "trivy-nydus", slices.Concat([]string{"mount", repository + ":bare", point}, nydusd,
		[]string{"--backend-type", "localfs", "--backend-config-file", "backend.json"})...)
	require.NoError(t, os.Symlink(blobs, filepath.Join(p.Dir, "blobs")))
	require.NoError(t, os.WriteFile(filepath.Join(p.Dir, "backend.json"), []byte(`{"dir":"./blobs"}`), 0o600))
	startMount(t, p)
	secret, err := os.ReadFile(filepath.Join(point, testimage.SecretPath))
	require.NoError(t, err)
	assert.Contains(t, string(secret), "GITHUB_PAT")
	require.NoError(t, p.Process.Signal(unix.SIGINT))
	assert.Zero(t, p.wait(t).code)
	assertNothingLeft(t, dir)
}

// TestModelArtifact: nydusd 2.2.0 cannot read blobs of external backends. A newer
// one is tried where NYDUSD_NEWER names it.
func TestModelArtifact(t *testing.T) {
	nydusd := throughNydusd(t)
	dir := ownTemp(t)
	model := testimage.BuildModel(t)
	reference := testregistry.Start(t).Host() + "/test/model:nydus"
	testimage.Push(t, reference, model.Image)
	refused(t, []string{reference}, "a backend of its own", "backend.json", "not read natively")
	refused(t, append(slices.Clone(nydusd), reference), "a backend of its own", "none was named")
	refused(t, slices.Concat(nydusd, inFolder(model.BlobDir), []string{reference}), "nydusd ended", "data in an external backend, which nydusd 2.2 does not read")
	assertNothingLeft(t, dir)

	newer := os.Getenv("NYDUSD_NEWER")
	if newer == "" {
		t.Skip("SKIPPED, NOTHING WAS SCANNED: NYDUSD_NEWER names no nydusd that knows external backends")
	}
	file := filepath.Join(t.TempDir(), "report.json")
	r := run(t, "trivy-nydus", slices.Concat(scanFlags, []string{"--cache-dir", t.TempDir(), "--mount", "nydusd", "--nydusd", newer,
		"--format", "json", "--output", file, reference}, inFolder(model.BlobDir))...)
	require.Zero(t, r.code, r.stderr)
	assert.Contains(t, r.stderr, "not verified: the image has no digests")
	assert.Equal(t, []string{"deploy.env: aws-access-key-id <nil>", "deploy.env: github-pat <nil>"}, found(decode(t, file)))
	assertNothingLeft(t, dir)
}

// TestImageWithoutData: an image of empty files has no blob that its bootstrap
// knows, and needs none to be read.
func TestImageWithoutData(t *testing.T) {
	spec := testimage.Spec{Name: "no-data", Layers: []testimage.Layer{{testimage.Dir("srv"), testimage.Text("srv/empty", "")}}}
	repository := testregistry.Start(t).Host() + "/test/no-data"
	for _, version := range []string{"5", "6"} {
		publishBootstrap(t, repository, spec, version)
		for _, tag := range []string{"whole", "bare"} {
			got := report(t, "trivy-nydus", append([]string{"--cache-dir", cacheDir(t), repository + ":" + tag}, allScanners...)...)
			assert.Empty(t, list(got["Results"]))
			assert.Len(t, list(got["Metadata"].(map[string]any)["DiffIDs"]), 1)
		}
		r := run(t, "trivy-nydus", append([]string{"--cache-dir", cacheDir(t), "--require-layers", repository + ":bare"}, allScanners...)...)
		assert.Equal(t, 2, r.code)
	}
}
