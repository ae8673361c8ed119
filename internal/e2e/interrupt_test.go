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

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
)

// TestInterrupted ends a scan at its n-th request, for each n, in three ways, and
// scans again with the same cache: the report is right, and neither scan leaves
// anything.
func TestInterrupted(t *testing.T) {
	temp := ownTemp(t)
	registry := testregistry.Start(t)
	publish(t, registry, testimage.Tiny(t))
	proxy := testregistry.CountingProxy(t, registry.Host())
	reference := proxy.Host() + "/test/tiny:v6"
	args := func(cache string) []string {
		return slices.Concat(scanFlags, []string{"--cache-dir", cache, reference})
	}
	want := report(t, "trivy-nydus", args(t.TempDir())...)
	requests := proxy.Requests()
	require.Greater(t, requests, 5)
	inTemp := func() (names []string) {
		entries, err := os.ReadDir(temp)
		require.NoError(t, err)
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), "trivy") { // the others are the test's own
				names = append(names, e.Name())
			}
		}
		return names
	}
	signals := []unix.Signal{unix.SIGKILL, unix.SIGTERM, unix.SIGINT}
	for n := 1; n <= requests; n++ {
		signal := signals[n%len(signals)]
		t.Run(fmt.Sprintf("%v at request %d", signal, n), func(t *testing.T) {
			var count atomic.Int64
			stalled := make(chan struct{})
			proxy.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
				if count.Add(1) < int64(n) {
					return false
				}
				if count.Load() == int64(n) {
					close(stalled)
				}
				<-r.Context().Done()
				return true
			})
			cache := t.TempDir()
			p := start(t, "trivy-nydus", args(cache)...)
			t.Cleanup(func() { _ = p.Process.Kill() })
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				_ = p.Wait()
			}()
			select {
			case <-stalled:
			case <-ended:
				// What is asked for at once may come in fewer requests.
				t.Skipf("it needs no request %d", n)
			}
			proxy.Intercept(nil)
			if n%5 == 0 {
				// The folder of a process that lives is not touched.
				before := inTemp()
				require.Len(t, before, 1)
				assertSame(t, want, report(t, "trivy-nydus", args(t.TempDir())...))
				assert.Equal(t, before, inTemp())
			}
			require.NoError(t, p.Process.Signal(signal))
			<-ended
			if signal == unix.SIGKILL {
				assert.Len(t, inTemp(), 1, "what a killed process cannot remove")
			} else {
				assert.Empty(t, inTemp())
			}
			assertNothingCached(t, cache)
			assertSame(t, want, report(t, "trivy-nydus", args(cache)...))
			assert.Empty(t, inTemp())
			left, err := filepath.Glob(filepath.Join(cache, "nydus", "*", "new-*"))
			require.NoError(t, err)
			assert.Empty(t, left, "unfinished files in the cache")
		})
	}
}

// TestNoRoom: a cache that cannot be written to and evidence that cannot be written
// down end in one clear line, without a report.
func TestNoRoom(t *testing.T) {
	l := newLayout(t, "6")
	t.Run("evidence on a full disk", func(t *testing.T) {
		refusedButCached(t, []string{"--evidence", "/dev/full", l.dir}, "write the evidence", "no space left on device", "hint: make room")
	})
	t.Run("report on a full disk", func(t *testing.T) {
		r := run(t, "trivy-nydus", slices.Concat(scanFlags, []string{"--quiet", "--cache-dir", t.TempDir(), "--format", "json", "--output", "/dev/full", l.dir})...)
		assert.Equal(t, 2, r.code, r.stderr)
		assert.Contains(t, r.stderr, "no space left on device")
	})
	t.Run("cache on a full disk", func(t *testing.T) {
		cache := smallDisk(t, 0, "size=16k")
		refusedButCached(t, []string{"--cache-dir", cache, l.dir}, "open the scan cache", "hint: make room")
	})
	t.Run("cache that is read-only", func(t *testing.T) {
		cache := smallDisk(t, unix.MS_RDONLY, "")
		refusedButCached(t, []string{"--cache-dir", cache, l.dir}, "open the scan cache", "read-only file system", "hint: choose a folder that can be written to")
	})
}

// refusedButCached is refused for what fails after the scan.
func refusedButCached(t *testing.T, args []string, words ...string) {
	t.Helper()
	output := filepath.Join(t.TempDir(), "report.json")
	r := run(t, "trivy-nydus", append(slices.Concat(scanFlags, []string{"--quiet", "--cache-dir", t.TempDir(), "--format", "json", "--output", output}), args...)...)
	assert.Equal(t, 2, r.code, r.stderr)
	assert.Empty(t, r.stdout)
	assert.NoFileExists(t, output)
	assert.NotContains(t, r.stderr, "panic")
	for _, word := range append(words, "error: ", "hint: ") {
		assert.Contains(t, r.stderr, word)
	}
	t.Log(r.stderr)
}
