package e2e

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
)

// withoutChunkTable pushes an image, tag oci, and twins of it whose bootstraps have no
// table of their chunks: in the one tagged vouched, the blob table has the digests of
// the blobs' tables of contents, in the one tagged bare not, as converters leave it.
func withoutChunkTable(t *testing.T) (repository string) {
	t.Helper()
	repository = publish(t, testregistry.Start(t), testimage.Tiny(t))
	n := testimage.Convert(t, testimage.BuildOCI(t, testimage.Tiny(t)), testimage.ConvertOptions{})
	testimage.Push(t, repository+":bare", testimage.AlterBootstrap(t, n, testimage.WithoutChunkTable))
	testimage.Push(t, repository+":vouched", testimage.AlterBootstrap(t, n, func(b []byte) []byte {
		return testimage.WithTOCDigests(t, testimage.WithoutChunkTable(b), n.BlobDir)
	}))
	return repository
}

// TestAllowUnverified: digests for which the manifest does not vouch are used if the
// user allows it, and all that is said of such a scan says so.
func TestAllowUnverified(t *testing.T) {
	const unverified = "not verified: the manifest does not vouch for the digests of the chunks"
	repository := withoutChunkTable(t)
	refused(t, []string{repository + ":bare"}, "the bootstrap has no digests of the chunks, and the manifest does not vouch", "cannot be verified")
	want := report(t, "trivy", append([]string{"image", "--cache-dir", cacheDir(t), repository + ":oci"}, everything...)...)
	require.NotEmpty(t, vulnerabilities(want))

	cache := cacheDir(t)
	scan := func(tag string, flags ...string) (result, map[string]any) {
		dir := t.TempDir()
		output, file := filepath.Join(dir, "report.json"), filepath.Join(dir, "evidence.json")
		r := run(t, "trivy-nydus", slices.Concat([]string{"--cache-dir", cache, "--evidence", file, "--format", "json", "--output", output},
			everything, flags, []string{repository + ":" + tag})...)
		if r.code != 0 {
			assert.NoFileExists(t, output)
			return r, nil
		}
		assertSame(t, want, decode(t, output))
		return r, decode(t, file)["scan"].(map[string]any)
	}
	// Fresh, and then known: the record of the image does not forget it.
	for _, line := range []string{"chunks read, " + unverified, "results from the cache, " + unverified} {
		r, evidence := scan("bare", "--allow-unverified")
		require.NotNil(t, evidence, r.stderr)
		assert.Equal(t, unverified, evidence["verified"])
		require.Len(t, evidence["warnings"], 1)
		assert.Contains(t, r.stderr, evidence["warnings"].([]any)[0])
		assert.Contains(t, r.stderr, line)
		assert.NotContains(t, r.stderr, "verified up to manifest")
	}
	// What was found so is not taken for more: neither without the flag, nor for an
	// image with the same blobs that can be verified.
	r, evidence := scan("bare")
	assert.Equal(t, 2, r.code)
	assert.Nil(t, evidence)
	assert.Contains(t, r.stderr, "hint: --allow-unverified reads it all the same")
	for _, tag := range []string{"vouched", "v6"} {
		r, evidence = scan(tag, "--allow-unverified")
		require.NotNil(t, evidence, r.stderr)
		assert.Equal(t, "verified", evidence["verified"])
		assert.NotContains(t, evidence, "warnings")
		assert.Contains(t, r.stderr, "verified")
		assert.NotContains(t, r.stderr, "not verified")
		if tag == "vouched" {
			assert.NotZero(t, evidence["filesRead"])
		}
	}
}

// TestCheckUnverified: a check says what it could not verify, and does so when the
// blobs are read.
func TestCheckUnverified(t *testing.T) {
	repository := withoutChunkTable(t)
	for _, c := range []struct {
		tag   string
		flags []string
		code  int
	}{
		{"bare", nil, 2}, {"bare", []string{"--data", "full"}, 0}, {"vouched", nil, 0},
	} {
		r := runCheck(t, append([]string{"--cache-dir", t.TempDir(), repository + ":oci", repository + ":" + c.tag}, c.flags...)...)
		assert.Equal(t, c.code, r.code, "%s %v: %s%s", c.tag, c.flags, r.stdout, r.stderr)
		if c.tag == "bare" {
			assert.Contains(t, r.stdout, "the manifest does not vouch for the digests that 3 of 3 blobs carry")
		} else {
			assert.NotContains(t, r.stdout, "not vouch")
		}
		if c.code == 2 {
			assert.Contains(t, r.stderr, "the content was compared with digests for which the manifest does not vouch")
			assert.Contains(t, r.stderr, "hint: read and verify the blobs themselves with --data full")
		}
	}
}

// TestInspectUnverified: inspect shows what the blobs say of the chunks, and reads
// what cannot be verified only if that is allowed.
func TestInspectUnverified(t *testing.T) {
	repository := withoutChunkTable(t)
	file := "/" + testimage.SecretPath
	shown := runInspect(t, repository+":v6", "cat", file)
	require.Zero(t, shown.code, shown.stderr)
	chunks := runInspect(t, repository+":v6", "stat", file)
	require.Zero(t, chunks.code, chunks.stderr)
	for _, tag := range []string{"bare", "vouched"} {
		r := runInspect(t, repository+":"+tag, "stat", file)
		assert.Equal(t, chunks.stdout, r.stdout, "the digests and places of its chunks")
		assert.Contains(t, r.stdout, "blake3:")
	}
	r := runInspect(t, repository+":vouched", "cat", file)
	assert.Equal(t, shown, r)
	r = runInspect(t, repository+":bare", "cat", file)
	assert.Equal(t, 2, r.code)
	assert.Empty(t, r.stdout)
	assert.Contains(t, r.stderr, "cannot be verified")
	assert.Contains(t, r.stderr, "hint: --allow-unverified reads it all the same")
	r = runInspect(t, repository+":bare", "--allow-unverified", "cat", file)
	assert.Zero(t, r.code)
	assert.Equal(t, shown.stdout, r.stdout)
	assert.Contains(t, r.stderr, "not verified: the manifest does not vouch")
}
