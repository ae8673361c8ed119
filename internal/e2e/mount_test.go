//go:build linux

package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
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

// ownTemp gives the commands that the test runs a folder for temporary files of
// their own, by which their processes are known.
func ownTemp(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	t.Cleanup(func() {
		// A test that failed must not leave anything for others to stumble over.
		for number := range processesOf(dir) {
			_ = unix.Kill(number, unix.SIGKILL)
		}
		for _, m := range mountsUnder(t, dir) {
			_ = unix.Unmount(m, unix.MNT_DETACH)
		}
	})
	return dir
}

// mountsUnder lists what is mounted below a folder.
func mountsUnder(t testing.TB, dir string) []string {
	t.Helper()
	table, err := os.ReadFile("/proc/self/mountinfo")
	require.NoError(t, err)
	var points []string
	for line := range strings.Lines(string(table)) {
		if point := strings.Fields(line)[4]; strings.HasPrefix(point, dir+"/") {
			points = append(points, point)
		}
	}
	return points
}

// processesOf lists the processes that have the folder for temporary files, by
// number, and their command lines; the test's own registries apart.
func processesOf(dir string) map[int]string {
	found := make(map[int]string)
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range all {
		environment, err := os.ReadFile(filepath.Join(p, "environ"))
		if err != nil || !strings.Contains("\x00"+string(environment), "\x00TMPDIR="+dir+"\x00") {
			continue
		}
		if words, err := os.ReadFile(filepath.Join(p, "cmdline")); err == nil && !strings.Contains(string(words), "docker-registry") {
			number, _ := strconv.Atoi(filepath.Base(p))
			found[number] = strings.ReplaceAll(string(words), "\x00", " ")
		}
	}
	return found
}

// nydusdOf finds the nydusd that runs for a folder for temporary files.
func nydusdOf(t testing.TB, dir string) *os.Process {
	t.Helper()
	for number, command := range processesOf(dir) {
		if words := strings.Fields(command); len(words) > 1 && words[1] == "fuse" {
			p, err := os.FindProcess(number)
			require.NoError(t, err)
			return p
		}
	}
	t.Fatalf("no nydusd runs: %v", processesOf(dir))
	return nil
}

// leftovers lists what runs, is mounted and lies under a folder for temporary
// files on behalf of nydusd.
func leftovers(t testing.TB, dir string) []string {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(dir, "trivy-nydus-mount-*"))
	require.NoError(t, err)
	for _, m := range mountsUnder(t, dir) {
		left = append(left, "mount at "+m)
	}
	for number, command := range processesOf(dir) {
		left = append(left, fmt.Sprintf("process %d: %s", number, command))
	}
	return left
}

func assertNothingLeft(t testing.TB, dir string) {
	t.Helper()
	assert.Empty(t, leftovers(t, dir))
}

// eventually waits for a condition, for ten seconds.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within ten seconds: %s", what)
		}
	}
}

// script makes a program that is nydusd but for what it does when it is to
// mount: body, a shell script in which REAL is nydusd's path.
func script(t testing.TB, body string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "nydusd")
	text := fmt.Sprintf("#!/bin/sh\nREAL=%s\ncase \"$1\" in fuse) ;; *) exec $REAL \"$@\";; esac\n%s\n", testimage.Tools(t).Nydusd, body)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o755))
	return path
}

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

// isNydusd says whether nydusd asks for data.
func isNydusd(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") && !strings.HasPrefix(r.UserAgent(), "trivy-nydus")
}

// withTrivy makes a folder in which trivy finds the plugin that was built.
func withTrivy(t *testing.T) {
	t.Helper()
	home := t.TempDir()
	folder := filepath.Join(home, ".trivy", "plugins", "nydus")
	require.NoError(t, os.MkdirAll(folder, 0o755))
	description, err := os.ReadFile("../../plugin.yaml")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(folder, "plugin.yaml"), description, 0o644))
	require.NoError(t, os.Symlink(built(t, "trivy-nydus"), filepath.Join(folder, "trivy-nydus")))
	t.Setenv("XDG_DATA_HOME", home)
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
						eventually(t, "nydusd is started", func() bool {
							files, _ := filepath.Glob(filepath.Join(dir, "trivy-nydus-mount-*", "nydusd.log"))
							return len(files) == 1
						})
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
					eventually(t, "all is gone", func() bool { return len(leftovers(t, dir)) == 0 })
					for len(asked) > 0 {
						<-asked
					}
				})
			}
		}
	}
}

// said is what a command has written to stderr so far.
type said string

func (s said) text() string { data, _ := os.ReadFile(string(s)); return string(data) }

// startMount starts the mount command and waits until it says that it is ready.
func startMount(t *testing.T, p *process) said {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	require.NoError(t, err)
	t.Cleanup(func() { file.Close() })
	p.Cmd.Stderr = file
	require.NoError(t, p.Start())
	s := said(file.Name())
	eventually(t, "it says that it is ready", func() bool { return strings.Contains(s.text(), "is mounted at") })
	return s
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

// TestMountCommandKilled: the mount goes with the command, and with trivy.
func TestMountCommandKilled(t *testing.T) {
	nydusd := throughNydusd(t)[2:]
	withTrivy(t)
	reference := publish(t, testregistry.Start(t), testimage.Tiny(t)) + ":v5"
	for _, who := range []string{"trivy-nydus", "trivy"} {
		for _, signal := range []os.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGKILL} {
			t.Run(who+"/"+signal.String(), func(t *testing.T) {
				dir, point := ownTemp(t), t.TempDir()
				args := append([]string{"mount", reference, point}, nydusd...)
				if who == "trivy" {
					args = append([]string{"nydus"}, args...)
				}
				p := start(t, who, args...)
				eventually(t, "it is mounted", func() bool { _, err := os.Stat(filepath.Join(point, testimage.SecretPath)); return err == nil })
				require.NoError(t, p.Process.Signal(signal))
				_ = p.Wait()
				eventually(t, "all is gone", func() bool {
					return len(leftovers(t, dir)) == 0 && len(mountsUnder(t, filepath.Dir(point))) == 0
				})
			})
		}
	}
}
