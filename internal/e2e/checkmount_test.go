//go:build linux

package e2e

import (
	"bytes"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
)

// TestCheckMounted compares what the real nydusd serves.
func TestCheckMounted(t *testing.T) {
	nydusd := throughNydusd(t)
	dir := ownTemp(t)
	registry := testregistry.Start(t)
	for _, version := range []string{"5", "6"} {
		oci, nydus := checkPair(t, registry, testimage.ConvertOptions{FSVersion: version})
		r := runCheck(t, append([]string{oci, nydus}, nydusd...)...)
		require.Zero(t, r.code, "%s\n%s", r.stdout, r.stderr)
		assert.Equal(t, "equal; content read as nydusd serves it", verdict(r))

		oci, nydus = checkPair(t, registry, testimage.ConvertOptions{FSVersion: version},
			changed("etc/motd", func(f *testimage.File) { f.Data, f.Mode = append([]byte("X"), f.Data[1:]...), 0o600 }))
		document := checkJSON(t, 1, append([]string{oci, nydus}, nydusd...)...)
		assert.ElementsMatch(t, []string{"filesystem etc/motd content", "filesystem etc/motd mode", sourceDigest}, foundIn(pairOf(document, 0)))
	}
	assertNothingLeft(t, dir)
}

// TestCheckMountedFails: a check through a nydusd that fails, hangs or is ended ends in
// time, with 2 and the reason.
func TestCheckMountedFails(t *testing.T) {
	nydusd := throughNydusd(t)
	registry := testregistry.Start(t)
	large := testimage.Spec{Name: "large", Layers: []testimage.Layer{{testimage.Reg("a", bytes.Repeat([]byte("a line of a text\n"), 4<<20))}}}
	for _, spec := range []testimage.Spec{testimage.Tiny(t), large} {
		publish(t, registry, spec)
	}
	for _, c := range []struct {
		name, image string
		served      int64 // requests that come before
		disturb     func(t *testing.T, dir string)
		args        []string
		words       []string
	}{
		{"the registry hangs", "tiny", 0, func(*testing.T, string) {}, []string{"--timeout", "3s"}, []string{"--timeout"}},
		{"nydusd hangs", "tiny", 0, func(t *testing.T, dir string) {
			assert.NoError(t, nydusdOf(t, dir).Signal(unix.SIGSTOP))
		}, []string{"--timeout", "3s"}, []string{"--timeout"}},
		{"nydusd is killed", "tiny", 0, func(t *testing.T, dir string) {
			assert.NoError(t, nydusdOf(t, dir).Kill())
		}, nil, []string{"nydusd ended", "killed"}},
		{"nydusd keeps too much", "large", 10, func(*testing.T, string) {}, []string{"--max-temp-size", "5MB"}, []string{"raise --max-temp-size"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := ownTemp(t)
			proxy := testregistry.CountingProxy(t, registry.Host())
			var requests atomic.Int64
			proxy.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
				if !isNydusd(r) {
					return false
				}
				nth := requests.Add(1)
				if nth <= c.served {
					return false
				}
				if nth == c.served+1 {
					c.disturb(t, dir)
				}
				<-r.Context().Done()
				return true
			})
			repository := proxy.Host() + "/test/" + c.image
			began := time.Now()
			p := start(t, "trivy-nydus", slices.Concat([]string{"check", "--cache-dir", t.TempDir()}, nydusd, c.args, []string{repository + ":oci", repository + ":v5"})...)
			defer time.AfterFunc(20*time.Second, func() { // of nydusd all others wait
				for number := range processesOf(dir) {
					_ = unix.Kill(number, unix.SIGKILL)
				}
			}).Stop()
			r := p.wait(t)
			assert.Equal(t, 2, r.code, "%s\n%s", r.stdout, r.stderr)
			for _, word := range c.words {
				assert.Contains(t, r.stderr, word)
			}
			assert.Less(t, time.Since(began), 15*time.Second)
			assertNothingLeft(t, dir)
		})
	}
}

// TestLeftBehind: what could not be taken away after a check or a scan is told, also with
// --quiet, with 2 and without a verdict or a report. The next one takes it away.
func TestLeftBehind(t *testing.T) {
	throughNydusd(t)
	repository := publish(t, testregistry.Start(t), testimage.Tiny(t))
	unremovable := []string{"--mount", "nydusd", "--nydusd", script(t, `touch cache/fixed; chattr +i cache/fixed; exec $REAL "$@"`)}
	if output, err := exec.Command("sh", "-c", "touch fixed && chattr +i fixed && chattr -i fixed && rm fixed").CombinedOutput(); err != nil {
		t.Skipf("no file can be made immutable here: %s", output)
	}
	for name, args := range map[string][]string{
		"check":         {"check", "--cache-dir", t.TempDir(), repository + ":oci", repository + ":v5"},
		"scan":          slices.Concat(scanFlags, []string{"--cache-dir", t.TempDir(), "--quiet", repository + ":v5"}),
		"several scans": slices.Concat(scanFlags, []string{"--cache-dir", t.TempDir(), "--format", "json", repository + ":v5", repository + ":v6"}),
	} {
		t.Run(name, func(t *testing.T) {
			dir := ownTemp(t)
			r := run(t, "trivy-nydus", slices.Concat(args, unremovable)...)
			fixed, err := filepath.Glob(filepath.Join(dir, "trivy-nydus-mount-*", "cache", "fixed"))
			require.NoError(t, err)
			require.NotEmpty(t, fixed)
			require.NoError(t, exec.Command("chattr", append([]string{"-i"}, fixed...)...).Run())
			assert.Equal(t, 2, r.code, r.stderr)
			assert.Contains(t, r.stderr, "left behind "+filepath.Dir(filepath.Dir(fixed[0])))
			assert.NotContains(t, verdict(r), "equal")
			assert.NotContains(t, r.stdout, "SchemaVersion")
			again := runCheck(t, slices.Concat(throughNydusd(t), []string{repository + ":oci", repository + ":v5"})...)
			assert.Zero(t, again.code, again.stderr)
			assertNothingLeft(t, dir)
		})
	}
}
