package e2e

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
)

var verifyFull = []string{"--verify", "full"}

// scanned is a scan's report and its evidence of the scan, with a cache.
func scanned(t *testing.T, cache string, args ...string) (report, evidence map[string]any) {
	t.Helper()
	dir := t.TempDir()
	output, file := filepath.Join(dir, "report.json"), filepath.Join(dir, "evidence.json")
	r := run(t, "trivy-nydus", slices.Concat([]string{"--cache-dir", cache, "--evidence", file, "--format", "json", "--output", output}, args)...)
	require.Zero(t, r.code, r.stderr)
	return decode(t, output), decode(t, file)["scan"].(map[string]any)
}

// kinds are the kinds of what evidence lists as not verified.
func kinds(evidence map[string]any) (kinds []string) {
	for _, u := range list(evidence["unverified"]) {
		kinds = append(kinds, u.(map[string]any)["what"].(string))
	}
	return kinds
}

// TestEvidenceOfVerification scans one image with and without --verify full, in
// either order with one cache, each twice: evidence says what was not verified down to
// the manifest, the cache repeats that and makes no more of it.
func TestEvidenceOfVerification(t *testing.T) {
	registry := testregistry.Start(t)
	repository := publish(t, registry, testimage.Tiny(t))
	proxy := testregistry.CountingProxy(t, registry.Host())
	size := layersSize(t, repository+":v6")
	reference := proxy.Host() + repository[len(registry.Host()):] + ":v6"
	chunks := append(slices.Clone(scanFlags), reference)
	full := slices.Concat(scanFlags, verifyFull, []string{reference})
	want, _ := scanned(t, t.TempDir(), chunks...)
	for _, order := range [][]bool{{false, true}, {true, false}} {
		cache := t.TempDir()
		for nth, whole := range append(order, order...) {
			proxy.Reset()
			if args := chunks; !whole {
				report, evidence := scanned(t, cache, args...)
				assertSame(t, want, report)
				assert.Equal(t, false, evidence["verifiedToManifest"])
				assert.ElementsMatch(t, []string{"layer-bootstrap", "layer-bootstrap", "layer-bootstrap", "hidden-files", "hidden-files"}, kinds(evidence))
				assert.Zero(t, evidence["blobsVerified"])
				continue
			}
			report, evidence := scanned(t, cache, full...)
			assertSame(t, want, report)
			assert.Equal(t, true, evidence["verifiedToManifest"])
			assert.Empty(t, kinds(evidence))
			assert.Equal(t, "verified, and all blobs whole", evidence["verified"])
			if nth < 2 {
				assert.EqualValues(t, 3, evidence["blobsVerified"])
				assert.Greater(t, proxy.Bytes(), size)
			} else {
				assert.Zero(t, evidence["blobsVerified"], "now; the rest was before")
				assert.Less(t, proxy.Bytes(), size/4)
			}
		}
	}
}

// TestClosingLine: it does not say of hidden files that they were verified up to the
// manifest, unless they were, also of results in the cache.
func TestClosingLine(t *testing.T) {
	reference := publish(t, testregistry.Start(t), testimage.Tiny(t)) + ":v6"
	cache := t.TempDir()
	closing := func(flags ...string) string {
		r := run(t, "trivy-nydus", slices.Concat(scanFlags, []string{"--cache-dir", cache}, flags, []string{reference})...)
		require.Zero(t, r.code, r.stderr)
		return r.stderr
	}
	const hidden = "but of hidden files (2) only up to their layers' bootstraps"
	assert.Regexp(t, `chunks verified up to manifest sha256:\w+, `+regexp.QuoteMeta(hidden), closing())
	assert.Regexp(t, `from the cache, manifest sha256:\w+, `+regexp.QuoteMeta(hidden), closing())
	assert.Regexp(t, `whole blobs verified up to manifest sha256:\w+\n`, closing(verifyFull...))
	assert.Regexp(t, `from the cache, manifest sha256:\w+\n`, closing(verifyFull...))
}

// layersSize is what a full download of an image's layers takes.
func layersSize(t *testing.T, reference string) (size int64) {
	t.Helper()
	image, err := nydusimage.Open(t.Context(), reference, nydusimage.Options{})
	require.NoError(t, err)
	defer image.Close()
	for _, l := range image.Layers {
		size += l.Size
	}
	return size
}

// TestVerifyFullVouchesForTails: digests of chunks that only the blobs carry are
// vouched for once the blobs are.
func TestVerifyFullVouchesForTails(t *testing.T) {
	reference := withoutChunkTable(t) + ":bare"
	refused(t, []string{reference}, "cannot be verified")
	_, evidence := scanned(t, t.TempDir(), slices.Concat(scanFlags, verifyFull, []string{reference})...)
	assert.Equal(t, true, evidence["verifiedToManifest"])
	assert.NotContains(t, evidence, "warnings")
	_, evidence = scanned(t, t.TempDir(), slices.Concat(scanFlags, []string{"--allow-unverified", reference})...)
	assert.Equal(t, false, evidence["verifiedToManifest"])
	assert.Contains(t, kinds(evidence), "chunk-digests")
}

// TestVerifyFull finds a byte that was altered where no analyzer reads, in data and in
// the bootstrap of a layer, which a scan of the chunks does not.
func TestVerifyFull(t *testing.T) {
	vulnerabilities := append(slices.Clone(offline), "--scanners", "vuln")
	for _, test := range []struct {
		name, version string
		alter         func(*testing.T, *layout)
	}{
		{"data of v6", "6", alterSecret},
		{"data of v5", "5", alterSecret},
		{"a layer's bootstrap", "5", alterLayerBootstrap},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := newLayout(t, test.version)
			scanned(t, cacheDir(t), slices.Concat(vulnerabilities, verifyFull, []string{l.dir})...)
			test.alter(t, l)
			scanned(t, cacheDir(t), append(slices.Clone(vulnerabilities), l.dir)...)
			refused(t, []string{"--scanners", "vuln", "--cache-dir", cacheDir(t), "--verify", "full", l.dir}, "blob sha256:", "hash to", "digest mismatch")
		})
	}
	t.Run("layers' bootstraps and their digests", func(t *testing.T) {
		// Those of two layers agree that the deleted file had another name, and so do
		// the tables of contents: without the whole blobs that is believed, and said.
		l := newLayout(t, "6")
		altered := alterLayerBootstrapsAndTOCs(t, l)
		cache := t.TempDir()
		report, evidence := scanned(t, cache, append(slices.Clone(scanFlags), l.dir)...)
		assert.Contains(t, secretPaths(report), "/"+altered)
		assert.NotContains(t, secretPaths(report), "/"+testimage.DeletedSecretPath)
		assert.Equal(t, false, evidence["verifiedToManifest"])
		for _, n := range []int{1, 2} {
			unverified := slices.ContainsFunc(list(evidence["unverified"]), func(u any) bool {
				source := u.(map[string]any)
				return source["what"] == "layer-bootstrap" && source["blob"] == l.manifest.Layers[n].Digest.String()
			})
			assert.True(t, unverified, "layer %d: %v", n, evidence["unverified"])
		}
		// What is in the cache by now does not help it.
		refused(t, append(slices.Clone(verifyFull), "--cache-dir", cache, l.dir), "blob sha256:", "hash to", "digest mismatch")
	})
	t.Run("OCI layers", func(t *testing.T) {
		registry := testregistry.Start(t)
		oci := testimage.BuildOCI(t, testimage.Tiny(t))
		testimage.Push(t, registry.Host()+"/test/zran:oci", oci)
		testimage.Push(t, registry.Host()+"/test/zran:nydus", testimage.Convert(t, oci, testimage.ConvertOptions{OCIRef: true}))
		proxy := testregistry.CountingProxy(t, registry.Host())
		reference := proxy.Host() + "/test/zran:nydus"
		_, evidence := scanned(t, t.TempDir(), slices.Concat(scanFlags, verifyFull, []string{reference})...)
		assert.EqualValues(t, 6, evidence["blobsVerified"], "three layers, and the indexes to them")
		assert.Equal(t, true, evidence["verifiedToManifest"])

		// The last byte is of the length behind the gzip stream, by which no chunk is
		// read: only the digest of all tells.
		manifest, err := oci.Manifest()
		require.NoError(t, err)
		for _, layer := range manifest.Layers {
			path := "/v2/test/zran/blobs/" + layer.Digest.String()
			proxy.Intercept(alterLastByte(proxy, path, layer.Size))
			scanned(t, t.TempDir(), slices.Concat(scanFlags, []string{reference})...)
			refused(t, append(slices.Clone(verifyFull), reference), "the OCI layer "+layer.Digest.String(), "digest mismatch")
		}
	})
	t.Run("nydusd", func(t *testing.T) {
		refused(t, []string{"--mount", "nydusd", "--verify", "full", "./x"}, "--verify full: nydusd reads the blobs itself")
	})
	t.Run("no such way", func(t *testing.T) {
		refused(t, []string{"--verify", "some", "./x"}, "--verify")
	})
}

// alterSecret flips a bit of a file that only the secret scanner reads.
func alterSecret(t *testing.T, l *layout) {
	t.Helper()
	image, err := nydusimage.Open(t.Context(), l.dir, nydusimage.Options{})
	require.NoError(t, err)
	defer image.Close()
	mount, err := nydusmount.Native(t.Context(), image)
	require.NoError(t, err)
	inode, err := mount.Merged.Lookup(testimage.SecretPath)
	require.NoError(t, err)
	chunks, err := inode.Chunks()
	require.NoError(t, err)
	for _, layer := range image.Layers {
		if layer.BlobID() == mount.Merged.BlobID(chunks[0].Blob) {
			flip(t, l.path(layer.Digest), int(chunks[0].CompressedOffset)+int(chunks[0].CompressedSize)/2)
			return
		}
	}
	t.Fatal("no layer has the file's data")
}

// alterLayerBootstrap gives a file that a later layer deletes another name.
func alterLayerBootstrap(t *testing.T, l *layout) {
	t.Helper()
	name := l.path(l.manifest.Layers[1].Digest)
	data, err := os.ReadFile(name)
	require.NoError(t, err)
	deleted := []byte(filepath.Base(testimage.DeletedSecretPath))
	at := bytes.LastIndex(data, deleted)
	require.Positive(t, at)
	flip(t, name, at+len(deleted)-1)
}

// alterLayerBootstrapsAndTOCs gives that file another name in the layer that brings it
// and in the one that deletes it, with digests that agree, and returns the name.
func alterLayerBootstrapsAndTOCs(t *testing.T, l *layout) string {
	t.Helper()
	altered := testimage.DeletedSecretPath[:len(testimage.DeletedSecretPath)-1] + "w"
	for _, n := range []int{1, 2} {
		name := l.path(l.manifest.Layers[n].Digest)
		data, err := os.ReadFile(name)
		require.NoError(t, err)
		testimage.AlterLayerBootstrap(t, data, func(boot []byte) {
			deleted := []byte(filepath.Base(testimage.DeletedSecretPath))
			at := bytes.LastIndex(boot, deleted)
			require.Positive(t, at)
			copy(boot[at:], filepath.Base(altered))
		})
		require.NoError(t, os.WriteFile(name, data, 0o644))
	}
	return altered
}

// alterLastByte is for a proxy: it flips a bit in the last byte of a blob, in whatever
// range it is asked for.
func alterLastByte(proxy *testregistry.Proxy, path string, size int64) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || r.URL.Path != path {
			return false
		}
		answer := httptest.NewRecorder()
		proxy.Forward(answer, r)
		body := answer.Body.Bytes()
		whole := answer.Code == http.StatusOK
		if whole || strings.HasSuffix(answer.Header().Get("Content-Range"), fmt.Sprintf("-%d/%d", size-1, size)) {
			body[len(body)-1] ^= 1
		}
		maps.Copy(w.Header(), answer.Header())
		w.WriteHeader(answer.Code)
		_, _ = w.Write(body)
		return true
	}
}
