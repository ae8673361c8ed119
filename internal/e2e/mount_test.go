//go:build linux

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

// needFUSE skips, loudly, where nydusd cannot mount.
func needFUSE(t testing.TB) {
	t.Helper()
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("SKIPPED, NOTHING WAS MOUNTED: nydusd cannot mount here: %v", err)
	}
	f.Close()
}

// throughNydusd are the flags for a scan through nydusd.
func throughNydusd(t testing.TB) []string {
	t.Helper()
	needFUSE(t)
	return []string{"--mount", "nydusd", "--nydusd", testimage.Tools(t).Nydusd}
}

// TestNydusdSameReport scans images natively and through nydusd. The reports are
// the same but for what hidden files tell.
func TestNydusdSameReport(t *testing.T) {
	nydusd := throughNydusd(t)
	registry := testregistry.Start(t)
	all := append(slices.Clone(offline), "--scanners", "vuln,secret,misconfig,license", "--list-all-pkgs",
		"--image-config-scanners", "misconfig,secret")
	for _, spec := range []func(testing.TB) testimage.Spec{testimage.Tiny, testimage.DebianApp} {
		s := spec(t)
		repository := publish(t, registry, s)
		for _, tag := range []string{"v5", "v6"} {
			t.Run(s.Name+"/"+tag, func(t *testing.T) {
				native := report(t, "trivy-nydus", append([]string{"--cache-dir", cacheDir(t), repository + ":" + tag}, all...)...)
				require.NotEmpty(t, list(native["Results"]), "there is nothing to compare")
				mounted := report(t, "trivy-nydus", append(append([]string{"--cache-dir", cacheDir(t), repository + ":" + tag}, all...), nydusd...)...)
				assertSame(t, native, mounted)
			})
		}
	}
	assertNothingLeft(t, os.TempDir())
}

// leftovers lists what runs, is mounted and lies under a folder for temporary
// files on behalf of nydusd.
func leftovers(t testing.TB, dir string) []string {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(dir, "trivy-nydus-mount-*"))
	require.NoError(t, err)
	table, err := os.ReadFile("/proc/self/mountinfo")
	require.NoError(t, err)
	for line := range strings.Lines(string(table)) {
		if strings.Contains(line, dir+"/") {
			left = append(left, "mount "+line)
		}
	}
	processes, err := filepath.Glob("/proc/[0-9]*")
	require.NoError(t, err)
	for _, p := range processes {
		words, err := os.ReadFile(filepath.Join(p, "cmdline"))
		if err != nil {
			continue // it has ended
		}
		environment, _ := os.ReadFile(filepath.Join(p, "environ"))
		cwd, _ := os.Readlink(filepath.Join(p, "cwd"))
		args := strings.Split(strings.TrimSuffix(string(words), "\x00"), "\x00")
		ours := strings.Contains(string(environment), "TMPDIR="+dir+"\x00") || strings.HasPrefix(cwd, dir+"/")
		if ours && (strings.Contains(filepath.Base(args[0]), "nydusd") || slices.Contains(args, "--watch-nydusd")) {
			left = append(left, "process "+strings.Join(args, " "))
		}
	}
	return left
}

func assertNothingLeft(t testing.TB, dir string) {
	t.Helper()
	assert.Empty(t, leftovers(t, dir))
}
