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
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
)

// stall publishes Tiny behind a proxy that does not answer nydusd's reads, and
// returns the reference and a channel that tells of each such read.
func stall(t testing.TB) (reference string, asked <-chan struct{}) {
	t.Helper()
	registry := testregistry.Start(t)
	publish(t, registry, testimage.Tiny(t))
	proxy := testregistry.CountingProxy(t, registry.Host())
	reads := make(chan struct{}, 100)
	proxy.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if !isNydusd(r) {
			return false
		}
		reads <- struct{}{}
		<-r.Context().Done()
		return true
	})
	return proxy.Host() + "/test/tiny:v5", reads
}

// withTrivy lets trivy find the plugin that was built.
func withTrivy(t *testing.T) {
	t.Helper()
	t.Setenv("XDG_DATA_HOME", pluginHome(t))
}

// pluginHome makes a folder in which trivy finds the plugin, as its XDG_DATA_HOME.
func pluginHome(t *testing.T) string {
	t.Helper()
	home := t.TempDir()
	folder := filepath.Join(home, ".trivy", "plugins", "nydus")
	require.NoError(t, os.MkdirAll(folder, 0o755))
	description, err := os.ReadFile("../../plugin.yaml")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(folder, "plugin.yaml"), description, 0o644))
	require.NoError(t, os.Symlink(built(t, "trivy-nydus"), filepath.Join(folder, "trivy-nydus")))
	return home
}

// TestNydusdLeavesNothing ends the plugin, and the trivy that runs it, at
// different moments of a scan.
func TestNydusdLeavesNothing(t *testing.T) {
	throughNydusd(t)
	withTrivy(t)
	stalled, asked := stall(t)
	registry := testregistry.Start(t)
	whole := publish(t, registry, testimage.Tiny(t)) + ":v5"
	for _, moment := range []string{"start", "middle", "end"} {
		for _, who := range []string{"trivy-nydus", "trivy"} {
			for _, signal := range []os.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGKILL} {
				t.Run(fmt.Sprintf("%s/%s/%v", moment, who, signal), func(t *testing.T) {
					dir := ownTemp(t)
					output := filepath.Join(t.TempDir(), "report.json")
					reference, nydusd := stalled, testimage.Tools(t).Nydusd
					switch moment {
					case "start":
						nydusd = script(t, "sleep 60")
					case "end":
						reference = whole
					}
					args := append(slices.Clone(scanFlags), "--mount", "nydusd", "--nydusd", nydusd, "--cache-dir", t.TempDir(),
						"--format", "json", "--output", output, reference)
					if who == "trivy" {
						args = append([]string{"nydus"}, args...)
					}
					p := start(t, who, args...)
					switch moment {
					case "start":
						eventually(t, "nydusd is started", func() bool { return started(dir) })
					case "middle":
						select {
						case <-asked:
						case <-time.After(20 * time.Second):
							t.Fatal("nydusd reads nothing")
						}
						require.Len(t, mountsUnder(t, dir), 1)
					case "end":
						eventually(t, "the report is there", func() bool { _, err := os.Stat(output); return err == nil })
					}
					require.NoError(t, p.Process.Signal(signal))
					_ = p.Wait()
					if who == "trivy-nydus" && signal != unix.SIGKILL && moment != "end" {
						assert.Equal(t, 130, p.ProcessState.ExitCode(), p.stderr.String())
						assert.NoFileExists(t, output)
						assertNothingLeft(t, dir) // at once
					}
					eventually(t, "all is gone", func() bool { return len(leftovers(t, dir)) == 0 })
					for len(asked) > 0 {
						<-asked
					}
				})
			}
		}
	}
}

// TestKilledWhileNydusdHangs: a plugin that has files open there cannot end before nydusd.
func TestKilledWhileNydusdHangs(t *testing.T) {
	nydusd := throughNydusd(t)
	reference, asked := stall(t)
	for name, command := range map[string][]string{
		"scan":  append([]string{"--cache-dir", cacheDir(t)}, allScanners...),
		"check": {"check", "--cache-dir", t.TempDir(), strings.Replace(reference, ":v5", ":oci", 1)},
	} {
		t.Run(name, func(t *testing.T) {
			dir := ownTemp(t)
			p := start(t, "trivy-nydus", slices.Concat(command, nydusd, []string{reference})...)
			select {
			case <-asked:
			case <-time.After(20 * time.Second):
				t.Fatal("nydusd reads nothing")
			}
			hanging := nydusdOf(t, dir)
			t.Cleanup(func() { _ = hanging.Kill() })
			require.NoError(t, hanging.Signal(unix.SIGSTOP))
			time.Sleep(100 * time.Millisecond) // for those that read at that moment
			require.NoError(t, p.Process.Kill())
			eventually(t, "all is gone", func() bool { return len(leftovers(t, dir)) == 0 })
			_ = p.Wait()
			for len(asked) > 0 {
				<-asked
			}
		})
	}
}

// started says whether nydusd has been started for a folder for temporary files.
func started(dir string) bool {
	logs, _ := filepath.Glob(filepath.Join(dir, "trivy-nydus-mount-*", "nydusd.log"))
	return len(logs) == 1
}

// TestMountCommandKilled: the mount goes with the command, and with trivy, and
// does not come after them.
func TestMountCommandKilled(t *testing.T) {
	throughNydusd(t)
	withTrivy(t)
	reference := publish(t, testregistry.Start(t), testimage.Tiny(t)) + ":v5"
	for _, moment := range []string{"start", "mounted"} {
		for _, who := range []string{"trivy-nydus", "trivy"} {
			for _, signal := range []os.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGKILL} {
				t.Run(fmt.Sprintf("%s/%s/%v", moment, who, signal), func(t *testing.T) {
					dir, point := ownTemp(t), t.TempDir()
					nydusd := testimage.Tools(t).Nydusd
					if moment == "start" {
						nydusd = script(t, "sleep 60")
					}
					args := []string{"mount", reference, point, "--nydusd", nydusd}
					if who == "trivy" {
						args = append([]string{"nydus"}, args...)
					}
					p := prepare(t, who, args...)
					if moment == "start" {
						require.NoError(t, p.Start())
						eventually(t, "nydusd is started", func() bool { return started(dir) })
					} else {
						startMount(t, p)
						assert.FileExists(t, filepath.Join(point, testimage.SecretPath))
					}
					require.NoError(t, p.Process.Signal(signal))
					_ = p.Wait()
					if who == "trivy-nydus" && (signal == unix.SIGINT || signal == unix.SIGTERM) {
						want := 0 // the usual end of a mount
						if moment == "start" {
							want = 130
						}
						assert.Equal(t, want, p.ProcessState.ExitCode())
						assertNothingLeft(t, dir) // at once
					}
					eventually(t, "all is gone", func() bool {
						return len(leftovers(t, dir)) == 0 && len(mountsUnder(t, filepath.Dir(point))) == 0
					})
				})
			}
		}
	}
}

// TestMountCommandEndsWhile it cannot end quietly: somebody uses the mount, or
// nydusd answers no more.
func TestMountCommandEndsWhile(t *testing.T) {
	nydusd := throughNydusd(t)[2:]
	reference := publish(t, testregistry.Start(t), testimage.Tiny(t)) + ":v5"
	for name, disturb := range map[string]func(t *testing.T, dir, point string){
		"a file is open": func(t *testing.T, _, point string) {
			file, err := os.Open(filepath.Join(point, testimage.SecretPath))
			require.NoError(t, err)
			t.Cleanup(func() { file.Close() })
		},
		"a process is in a folder": func(t *testing.T, _, point string) {
			sleep := exec.Command("sleep", "60")
			sleep.Dir, sleep.Env = filepath.Join(point, filepath.Dir(testimage.SecretPath)), []string{}
			require.NoError(t, sleep.Start())
			t.Cleanup(func() { _ = sleep.Process.Kill(); _ = sleep.Wait() })
		},
		"nydusd hangs": func(t *testing.T, dir, _ string) {
			require.NoError(t, nydusdOf(t, dir).Signal(unix.SIGSTOP))
		},
		"a read hangs": func(t *testing.T, dir, point string) {
			require.NoError(t, nydusdOf(t, dir).Signal(unix.SIGSTOP))
			read := make(chan error)
			go func() { _, err := os.ReadFile(filepath.Join(point, "usr/share/common-licenses/GPL-3")); read <- err }()
			t.Cleanup(func() { assert.Error(t, <-read) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, point := ownTemp(t), t.TempDir()
			p := prepare(t, "trivy-nydus", append([]string{"mount", reference, point}, nydusd...)...)
			stderr := startMount(t, p)
			disturb(t, dir, point)
			began := time.Now()
			require.NoError(t, p.Process.Signal(unix.SIGINT))
			r := p.wait(t)
			assert.Zero(t, r.code, stderr.text())
			assert.Less(t, time.Since(began), 10*time.Second)
			assert.Empty(t, mountsUnder(t, filepath.Dir(point)))
			assertNothingLeft(t, dir)
		})
	}
}
