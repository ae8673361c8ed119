//go:build linux

package e2e

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
)

// smallDisk mounts a disk of its own, with flags of mount and options of tmpfs.
func smallDisk(t *testing.T, flags uintptr, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", flags, options); err != nil {
		t.Skipf("mount a small disk: %v", err)
	}
	t.Cleanup(func() { assert.NoError(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	return dir
}

// withoutRanges is the host of a registry whose blobs must be taken whole.
func withoutRanges(t *testing.T, registry *testregistry.Registry) string {
	t.Helper()
	proxy := testregistry.CountingProxy(t, registry.Host())
	proxy.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		r.Header.Del("Range")
		return false
	})
	return proxy.Host()
}

// assertNoRoom looks at what a command said that found no room: the error and what can
// be done, a line each, with what was being done, and the path.
func assertNoRoom(t *testing.T, r result, doing, path string) {
	t.Helper()
	assert.Equal(t, 2, r.code, r.stderr)
	lines := strings.Split(strings.TrimSpace(r.stderr), "\n")
	require.Len(t, lines, 2, r.stderr)
	assert.True(t, strings.HasPrefix(lines[0], "error: "), lines[0])
	assert.Contains(t, lines[0], doing)
	assert.Contains(t, lines[0], path)
	assert.Contains(t, lines[0], "no space left on device")
	assert.Equal(t, "hint: make room there, or choose another place: --cache-dir for the cache, TMPDIR for temporary files", lines[1])
}

// TestFullTempFolder: where there is no room for a temporary file there is no report,
// nothing in the cache, and nothing left behind.
func TestFullTempFolder(t *testing.T) {
	t.Parallel()
	registry := testregistry.Start(t)
	debian, tiny := publish(t, registry, testimage.DebianApp(t)), publish(t, registry, testimage.Tiny(t))
	whole := withoutRanges(t, registry) + strings.TrimPrefix(tiny, registry.Host())
	const noFolder, noFile = "nr_inodes=1", "size=4k"
	const together, spool = "files that analyzers read together", "store a blob from a registry without ranges"
	for _, c := range []struct {
		name, disk, doing string
		args              []string
	}{
		{"no room for a folder", noFolder, "make a folder for " + together, append(slices.Clone(scanFlags), tiny+":v6")},
		{"no room for Trivy's folder", "nr_inodes=3", "make a folder for " + together, append(slices.Clone(scanFlags), tiny+":v6")},
		{"no room for a copy", noFile, "for the analyzers that read files together", append(slices.Clone(allScanners), debian+":v6")},
		{"no room for a blob", noFile, spool, append(slices.Clone(scanFlags), whole+":v6")},
		{"no room for a blob, verified whole", noFile, spool, slices.Concat(scanFlags, verifyFull, []string{whole + ":v5"})},
		{"check", noFile, spool, []string{"check", whole + ":oci", whole + ":v6"}},
		{"check of all data", noFolder, spool, []string{"check", "--data", "full", whole + ":oci", whole + ":v5"}},
		{"inspect", noFile, spool, []string{"inspect", whole + ":v6", "cat", "/" + testimage.SecretPath}},
	} {
		t.Run(c.name, func(t *testing.T) {
			temp, cache := smallDisk(t, 0, c.disk), cacheDir(t)
			p := prepare(t, "trivy-nydus", append(slices.Clone(c.args), "--quiet", "--cache-dir", cache)...)
			p.Env = append(p.Env, "TMPDIR="+temp)
			require.NoError(t, p.Start())
			r := p.wait(t)
			assertNoRoom(t, r, c.doing, temp)
			if c.args[0] != "check" { // which shows what it could not do
				assert.Empty(t, r.stdout)
			}
			assertNothingCached(t, cache)
			assert.Empty(t, filesBelow(t, temp))
		})
	}
}

// TestFullCache scans with a cache on disks of many sizes: there is the right report or
// exit code 2, and once there is room, the same cache serves.
func TestFullCache(t *testing.T) {
	t.Parallel()
	reference := publish(t, testregistry.Start(t), testimage.Tiny(t)) + ":v6"
	scan := func(cache string) (r result, report string) {
		report = filepath.Join(t.TempDir(), "report.json")
		return run(t, "trivy-nydus", slices.Concat(scanFlags, []string{"--quiet", "--cache-dir", cache, "--format", "json", "--output", report, reference})...), report
	}
	r, output := scan(t.TempDir())
	require.Zero(t, r.code, r.stderr)
	want := decode(t, output)
	reports := 0
	for _, options := range []string{"size=4k", "size=8k", "size=16k", "size=32k", "size=48k", "size=64k", "size=80k", "size=96k", "size=256k", "nr_inodes=1", "nr_inodes=2", "nr_inodes=5", "nr_inodes=8"} {
		t.Run(options, func(t *testing.T) {
			cache := smallDisk(t, 0, options)
			r, output := scan(cache)
			if r.code == 0 {
				reports++
				assertSame(t, want, decode(t, output))
			} else {
				assertNoRoom(t, r, "the cache", cache)
				assert.NoFileExists(t, output)
			}
			require.NoError(t, unix.Mount("", cache, "", unix.MS_REMOUNT, "size=10m,nr_inodes=1000"))
			r, output = scan(cache)
			require.Zero(t, r.code, r.stderr)
			assertSame(t, want, decode(t, output))
			for _, name := range filesBelow(t, cache) {
				assert.False(t, strings.HasPrefix(filepath.Base(name), "new-"), name)
			}
		})
	}
	assert.NotZero(t, reports, "with a disk that is large enough")

	t.Run("several images", func(t *testing.T) {
		// There is room for the scan cache's file and no more, as no folder can be made
		// for metadata. The second does not wait for what the first has left locked.
		cache := smallDisk(t, 0, "size=16k")
		require.NoError(t, os.WriteFile(filepath.Join(cache, "nydus"), nil, 0o600))
		r := run(t, "trivy-nydus", slices.Concat(scanFlags, []string{"--quiet", "--cache-dir", cache, "--format", "json", "--timeout", "20s", reference, reference})...)
		assert.Equal(t, 2, r.code)
		assert.Equal(t, 2, strings.Count(r.stderr, "DB error: write "+filepath.Join(cache, "fanal", "fanal.db")+": no space left on device"), r.stderr)
	})
}

// TestCheckOfFullCache: a check and inspect do without a cache that has no room.
func TestCheckOfFullCache(t *testing.T) {
	t.Parallel()
	repository := publish(t, testregistry.Start(t), testimage.Tiny(t))
	for _, options := range []string{"size=4k", "size=32k", "nr_inodes=1", "nr_inodes=4"} {
		for _, args := range [][]string{{"check", repository + ":oci", repository + ":v6"}, {"inspect", repository + ":v6", "cat", "/" + testimage.SecretPath}} {
			t.Run(fmt.Sprint(args[0], " ", options), func(t *testing.T) {
				cache := smallDisk(t, 0, options)
				want := run(t, "trivy-nydus", append(slices.Clone(args), "--quiet", "--cache-dir", t.TempDir())...)
				r := run(t, "trivy-nydus", append(slices.Clone(args), "--quiet", "--cache-dir", cache)...)
				assert.Zero(t, r.code, r.stderr)
				assert.Equal(t, verdict(want), verdict(r)) // the rest has times
			})
		}
	}
}

// TestNoRights: where the user may not write there is no report, and one line says where that
// is, another what can be done.
func TestNoRights(t *testing.T) {
	t.Parallel()
	setpriv, err := exec.LookPath("setpriv")
	if err != nil || os.Getuid() != 0 {
		t.Skip("another user's folders need root and setpriv")
	}
	registry := testregistry.Start(t)
	tiny := publish(t, registry, testimage.Tiny(t))
	whole := withoutRanges(t, registry) + strings.TrimPrefix(tiny, registry.Host())
	for _, c := range []struct {
		name      string
		cache     bool // or else the folder for temporary files
		reference string
	}{
		{"cache", true, tiny + ":v6"},
		{"temporary files", false, tiny + ":v6"},
		{"a blob from a registry without ranges", false, whole + ":v6"},
	} {
		t.Run(c.name, func(t *testing.T) {
			// Not below t.TempDir, through which only root may go.
			others, err := os.MkdirTemp("", "trivy-nydus-test-")
			require.NoError(t, err)
			t.Cleanup(func() { assert.NoError(t, os.RemoveAll(others)) })
			require.NoError(t, os.Chmod(others, 0o755))
			own := filepath.Join(others, "own")
			require.NoError(t, os.Mkdir(own, 0o777))
			require.NoError(t, os.Chmod(own, 0o777)) // whatever the umask
			command := filepath.Join(others, "trivy-nydus")
			program, err := os.ReadFile(built(t, "trivy-nydus"))
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(command, program, 0o755))

			temp, cache := others, own
			if c.cache {
				temp, cache = own, filepath.Join(others, "cache")
			}
			p := prepare(t, "trivy-nydus", slices.Concat(scanFlags, []string{"--quiet", "--cache-dir", cache, c.reference})...)
			p.Path, p.Args = setpriv, slices.Concat([]string{setpriv, "--reuid=65534", "--regid=65534", "--clear-groups", command}, p.Args[1:])
			p.Dir = own
			p.Env = append(p.Env, "TMPDIR="+temp, "HOME="+own, "XDG_CONFIG_HOME="+own, "XDG_RUNTIME_DIR="+own, "DOCKER_CONFIG="+own)
			require.NoError(t, p.Start())
			r := p.wait(t)
			assert.Equal(t, 2, r.code, r.stderr)
			assert.Empty(t, r.stdout)
			lines := strings.Split(strings.TrimSpace(r.stderr), "\n")
			require.Len(t, lines, 2, r.stderr)
			assert.Contains(t, lines[0], others)
			assert.Contains(t, lines[0], "permission denied")
			assert.Equal(t, "hint: check who may read and write there; --cache-dir names another folder for the cache, TMPDIR for temporary files", lines[1])
		})
	}
}
