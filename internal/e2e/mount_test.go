//go:build linux

package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
)

// flat is an image of one layer: it hides nothing.
func flat(t testing.TB) testimage.Spec {
	s := testimage.Tiny(t)
	s.Name, s.Layers = "flat", []testimage.Layer{testimage.Join(s.Layers[0], s.Layers[1])}
	return s
}

// TestNydusdSameReport scans images natively and through nydusd. Where a layer
// hides nothing of another, the reports are the same.
func TestNydusdSameReport(t *testing.T) {
	nydusd := throughNydusd(t)
	dir := ownTemp(t)
	registry := testregistry.Start(t)
	all := append(slices.Clone(offline), "--scanners", "vuln,secret,misconfig,license", "--list-all-pkgs",
		"--image-config-scanners", "misconfig,secret")
	for _, c := range []struct {
		spec func(testing.TB) testimage.Spec
		only func(*testing.T, map[string]any) map[string]any
	}{
		{flat, func(_ *testing.T, r map[string]any) map[string]any { return r }},
		{testimage.Tiny, onlyShown},
		{testimage.DebianApp, onlyShown},
	} {
		s := c.spec(t)
		repository := publish(t, registry, s)
		for _, tag := range []string{"v5", "v6"} {
			t.Run(s.Name+"/"+tag, func(t *testing.T) {
				args := append([]string{"--cache-dir", cacheDir(t), repository + ":" + tag}, all...)
				native := report(t, "trivy-nydus", args...)
				mounted := report(t, "trivy-nydus", append(slices.Clone(args), nydusd...)...)
				require.NotEmpty(t, list(native["Results"]), "there is nothing to compare")
				assertSame(t, c.only(t, native), c.only(t, mounted))
			})
		}
	}
	assertNothingLeft(t, dir)
}

// TestNydusdEvidence: it is said how far the data was verified, and results are
// cached apart from those of another way.
func TestNydusdEvidence(t *testing.T) {
	nydusd := throughNydusd(t)
	registry := testregistry.Start(t)
	repository := publish(t, registry, testimage.Tiny(t))
	for tag, verified := range map[string]string{
		"v5": "verified by nydusd",
		"v6": "not verified: nydusd does not verify RAFS v6 data",
	} {
		t.Run(tag, func(t *testing.T) {
			cache, file := t.TempDir(), filepath.Join(t.TempDir(), "evidence.json")
			scan := func(flags ...string) (evidence map[string]any, cached bool, line string) {
				r := run(t, "trivy-nydus", slices.Concat(scanFlags, []string{"--cache-dir", cache, "--evidence", file, repository + ":" + tag}, flags)...)
				require.Zero(t, r.code, r.stderr)
				evidence = decode(t, file)["scan"].(map[string]any)
				cached = true
				for _, slice := range list(evidence["slices"]) {
					cached = cached && slice.(map[string]any)["fromCache"].(bool)
				}
				lines := strings.Split(strings.TrimSpace(r.stderr), "\n")
				return evidence, cached, lines[len(lines)-1]
			}
			evidence, cached, line := scan(nydusd...)
			assert.Equal(t, verified, evidence["verified"])
			assert.Equal(t, false, evidence["verifiedToManifest"])
			assert.Equal(t, []string{"nydusd-reads"}, kinds(evidence))
			assert.EqualValues(t, 0, evidence["chunksVerified"])
			assert.Greater(t, evidence["nydusdBytes"], 0.0)
			assert.Greater(t, evidence["nydusdRequests"], 0.0)
			assert.False(t, cached)
			assert.Contains(t, line, "nydusd read ")
			assert.Contains(t, line, verified)

			evidence, cached, line = scan()
			assert.Equal(t, "verified", evidence["verified"])
			assert.False(t, cached, "results through nydusd are not taken for verified ones")
			assert.NotContains(t, line, "nydusd")

			// Both ways have their own results now. No nydusd is needed.
			evidence, cached, line = scan("--mount", "nydusd", "--nydusd", "/nowhere/nydusd")
			assert.Equal(t, verified, evidence["verified"])
			assert.Equal(t, []string{"nydusd-reads"}, kinds(evidence))
			assert.True(t, cached)
			assert.Contains(t, line, "results of nydusd's reads from the cache, "+verified)
			evidence, cached, _ = scan()
			assert.Equal(t, "verified", evidence["verified"])
			assert.True(t, cached)
		})
	}
}

// onlyShown takes out of a report what only hidden files tell: secrets that a
// later layer deleted, and which layer first brought a package and its files,
// which older package databases say.
func onlyShown(t *testing.T, report map[string]any) map[string]any {
	t.Helper()
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if v["PkgName"] != nil || v["Identifier"] != nil {
				delete(v, "Layer")
				delete(v, "InstalledFiles")
			}
			for _, value := range v {
				walk(value)
			}
		case []any:
			for _, value := range v {
				walk(value)
			}
		}
	}
	walk(report["Results"])
	report["Results"] = slices.DeleteFunc(list(report["Results"]), func(result any) bool {
		return result.(map[string]any)["Target"] == "/"+testimage.DeletedSecretPath
	})
	return report
}

// TestMountCommand mounts, looks around, scans what is there, and unmounts.
func TestMountCommand(t *testing.T) {
	nydusd := throughNydusd(t)[2:]
	registry := testregistry.Start(t)
	repository := publish(t, registry, testimage.Tiny(t))
	for _, signal := range []os.Signal{unix.SIGINT, unix.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			dir := ownTemp(t)
			p := prepare(t, "trivy-nydus", append([]string{"mount", repository + ":v6", "image"}, nydusd...)...)
			point := filepath.Join(p.Dir, "image") // given as a relative path
			require.NoError(t, os.Mkdir(point, 0o755))
			stderr := startMount(t, p)
			assert.FileExists(t, filepath.Join(point, testimage.SecretPath))
			configurations, err := filepath.Glob(filepath.Join(dir, "trivy-nydus-mount-*", "config.json"))
			require.NoError(t, err)
			assert.Empty(t, configurations)
			found := report(t, "trivy", append([]string{"rootfs", "--cache-dir", cacheDir(t), point}, scanFlags...)...)
			assert.Contains(t, fmt.Sprint(found["Results"]), testimage.SecretPath)
			require.NoError(t, p.Process.Signal(signal))
			r := p.wait(t)
			assert.Zero(t, r.code, stderr.text())
			assert.Equal(t, fmt.Sprintf("nydus: %s:v6 is mounted at %s; interrupt to unmount it\n", repository, point), stderr.text())
			assert.Empty(t, r.stdout)
			assert.Empty(t, mountsUnder(t, p.Dir))
			entries, err := os.ReadDir(point)
			require.NoError(t, err)
			assert.Empty(t, entries)
			assertNothingLeft(t, dir)
		})
	}
}

// TestMountCommandPrefetch: nydusd fetches data that nobody reads if, and only
// if, it is asked to.
func TestMountCommandPrefetch(t *testing.T) {
	nydusd := throughNydusd(t)[2:]
	registry := testregistry.Start(t)
	publish(t, registry, testimage.Tiny(t))
	for _, prefetch := range []bool{false, true} {
		t.Run(fmt.Sprint(prefetch), func(t *testing.T) {
			dir, point := ownTemp(t), t.TempDir()
			proxy := testregistry.CountingProxy(t, registry.Host())
			var read atomic.Int64
			proxy.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
				if isNydusd(r) {
					read.Add(1)
				}
				return false
			})
			p := prepare(t, "trivy-nydus", append([]string{"mount", proxy.Host() + "/test/tiny:v5", point, fmt.Sprintf("--prefetch=%v", prefetch)}, nydusd...)...)
			startMount(t, p)
			if prefetch {
				eventually(t, "data is fetched", func() bool { return read.Load() > 0 })
			} else {
				time.Sleep(time.Second)
				assert.Zero(t, read.Load())
			}
			require.NoError(t, p.Process.Signal(unix.SIGTERM))
			assert.Zero(t, p.wait(t).code)
			assertNothingLeft(t, dir)
		})
	}
}
