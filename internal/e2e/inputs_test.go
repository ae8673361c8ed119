package e2e

import (
	"encoding/json"
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

// TestTwin scans an OCI image through the Nydus image that names it as its
// subject, in a registry without a referrers API.
func TestTwin(t *testing.T) {
	registry := testregistry.Start(t)
	repository := registry.Host() + "/test/twin"
	oci := testimage.BuildOCI(t, testimage.Tiny(t))
	source := testimage.Push(t, repository+":oci", oci)
	alone := testimage.Push(t, repository+":alone", testimage.BuildOCI(t, testimage.SecretCmd(t)))
	nydus := testimage.Push(t, repository+":nydus", testimage.Convert(t, oci, testimage.ConvertOptions{Referrer: true}))

	want := report(t, "trivy", append([]string{"image", "--cache-dir", t.TempDir(), repository + ":oci"}, scanFlags...)...)
	for _, reference := range []string{repository + ":oci", repository + "@" + source.String()} {
		evidence := filepath.Join(t.TempDir(), "evidence.json")
		r := run(t, "trivy-nydus", append(slices.Clone(scanFlags), "--twin", "--cache-dir", t.TempDir(), "--evidence", evidence,
			"--format", "json", "--output", filepath.Join(t.TempDir(), "report.json"), reference)...)
		require.Zero(t, r.code, r.stderr)
		assert.Contains(t, r.stderr, "nothing proves that")
		image := decode(t, evidence)["image"].(map[string]any)
		assert.Equal(t, nydus.String(), image["manifest"])
		assert.Equal(t, source.String(), image["unprovenTwinOf"])
		assertSame(t, want, report(t, "trivy-nydus", append(slices.Clone(scanFlags), "--twin", "--cache-dir", t.TempDir(), repository+":oci")...))
	}
	refused(t, []string{"--twin", "--require-nydus", repository + "@" + alone.String()}, "no Nydus twin")
	refused(t, []string{"--require-nydus", repository + ":oci"}, "not a Nydus image")
}

// TestPlainImage gives Trivy's own report for what is not Nydus.
func TestPlainImage(t *testing.T) {
	registry := testregistry.Start(t)
	repository := publish(t, registry, testimage.Tiny(t))
	want := report(t, "trivy", append([]string{"image", "--cache-dir", cacheDir(t), repository + ":oci"}, allScanners...)...)
	got := report(t, "trivy-nydus", append([]string{"--cache-dir", cacheDir(t), repository + ":oci"}, allScanners...)...)
	for _, r := range []map[string]any{want, got} {
		for _, key := range []string{"ReportID", "CreatedAt"} {
			delete(r, key)
		}
	}
	assert.Equal(t, want, got, "digests and names included")

	r := run(t, "trivy-nydus", append(slices.Clone(scanFlags), "--cache-dir", t.TempDir(), "--output", filepath.Join(t.TempDir(), "report"), repository+":oci")...)
	require.Zero(t, r.code)
	assert.Contains(t, r.stderr, "is not a Nydus image")
}

// TestManyImages scans several images in one call, one of which is not there.
func TestManyImages(t *testing.T) {
	registry := testregistry.Start(t)
	tiny := publish(t, registry, testimage.Tiny(t))
	secret := publish(t, registry, testimage.SecretCmd(t))
	names := []string{tiny + ":v6", secret + ":none", secret + ":v5", tiny + ":v5"}
	flags := append(slices.Clone(scanFlags), "--format", "json", "--quiet")
	check := func(r result) {
		t.Helper()
		assert.Equal(t, 2, r.code, r.stderr)
		lines := strings.Split(strings.TrimSpace(r.stdout), "\n")
		require.Len(t, lines, 3, "one report a line")
		for i, name := range []string{names[0], names[2], names[3]} {
			assert.Contains(t, lines[i], `"ArtifactName":"`+name+`"`)
		}
		assert.Contains(t, r.stderr, names[1])
		assert.Contains(t, r.stderr, "1 of 4 images could not be scanned")
	}
	check(run(t, "trivy-nydus", slices.Concat(flags, []string{"--cache-dir", t.TempDir()}, names)...))

	p := prepare(t, "trivy-nydus", append(slices.Clone(flags), "--cache-dir", t.TempDir(), "--refs-from", "-")...)
	p.Stdin = strings.NewReader("# images\n\n" + strings.Join(names, " # why\n") + "\n")
	require.NoError(t, p.Start())
	check(p.wait(t))

	r := run(t, "trivy-nydus", slices.Concat(flags, []string{"--cache-dir", t.TempDir(), "--exit-code", "7", names[0], names[2]})...)
	assert.Equal(t, 7, r.code, r.stderr)
	r = run(t, "trivy-nydus", append(slices.Clone(scanFlags), names[0], names[2])...)
	assert.Equal(t, 2, r.code, "a table of several images is no JSON line: %s", r.stderr)

	old := publish(t, registry, testimage.Alpine(t)) + ":v6" // its support has ended
	for _, names := range [][]string{{old, names[0]}, {names[0], old}} {
		r = run(t, "trivy-nydus", slices.Concat(allScanners, []string{"--format", "json", "--quiet", "--cache-dir", cacheDir(t), "--exit-code", "7", "--exit-on-eol", "9"}, names)...)
		assert.Equal(t, 9, r.code, "the highest; stderr: %s", r.stderr)
	}
}

// TestMemoryCacheWithinOneCall scans one image twice in one call: the cache in
// memory ends with it, and serves the second scan.
func TestMemoryCacheWithinOneCall(t *testing.T) {
	registry := testregistry.Start(t)
	repository := publish(t, registry, testimage.Tiny(t))
	evidence := filepath.Join(t.TempDir(), "evidence.jsonl")
	r := run(t, "trivy-nydus", append(slices.Clone(scanFlags), "--quiet", "--format", "json", "--cache-backend", "memory",
		"--cache-dir", t.TempDir(), "--evidence", evidence, repository+":v6", repository+":v6")...)
	require.Zero(t, r.code, r.stderr)
	data, err := os.ReadFile(evidence)
	require.NoError(t, err)
	var chunks []float64
	for line := range strings.Lines(string(data)) {
		var e map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &e))
		chunks = append(chunks, e["scan"].(map[string]any)["chunksVerified"].(float64))
	}
	require.Len(t, chunks, 2)
	assert.NotZero(t, chunks[0])
	assert.Zero(t, chunks[1])
}
