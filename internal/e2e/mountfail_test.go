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
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
)

// TestNydusdRefuses: scans that nydusd cannot serve say why, with exit code 2
// and no report.
func TestNydusdRefuses(t *testing.T) {
	dir := func(t *testing.T) string { throughNydusd(t); return ownTemp(t) }(t)
	tiny := publish(t, testregistry.Start(t), testimage.Tiny(t))
	archive := filepath.Join(t.TempDir(), "image.tar")
	folder := newLayout(t, "6").dir
	out, err := exec.Command("tar", "-cf", archive, "-C", folder, ".").CombinedOutput()
	require.NoError(t, err, string(out))
	configuration := filepath.Join(t.TempDir(), "trivy.yaml")
	host, _, _ := strings.Cut(tiny, "/")
	require.NoError(t, os.WriteFile(configuration, []byte("registry:\n  mirrors:\n    "+host+":\n      - mirror.example\n"), 0o644))
	authority := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(authority, testregistry.Start(t, testregistry.WithTLS()).CA(), 0o644))
	other := filepath.Join(t.TempDir(), "nydusd")
	require.NoError(t, os.WriteFile(other, []byte("#!/bin/sh\necho 'nydusd Version: v1.1.2'\n"), 0o755))

	for _, c := range []struct {
		name   string
		nydusd string // "" is the real one
		args   []string
		words  []string
	}{
		{"no nydusd", "/nowhere/nydusd", []string{tiny + ":v6"}, []string{"nydusd is not there", "cargo install nydus-rs", "--nydusd"}},
		{"an old nydusd", other, []string{tiny + ":v6"}, []string{"version v1.1.2", "2.x"}},
		{"another program", "/bin/true", []string{tiny + ":v6"}, []string{"another program"}},
		{"nydusd dies at the start", script(t, "echo something broke >&2; exit 3"), []string{tiny + ":v6"}, []string{"exit status 3", "something broke"}},
		{"nydusd never serves", script(t, "sleep 60"), []string{"--timeout", "2s", tiny + ":v6"}, []string{"--timeout"}},
		{"--require-layers", "", []string{"--require-layers", tiny + ":v6"}, []string{"--require-layers"}},
		{"--cacert", "", []string{"--cacert", authority, tiny + ":v6"}, []string{"--cacert"}},
		{"--registry-token", "", []string{"--registry-token", "t", tiny + ":v6"}, []string{"--registry-token"}},
		{"mirrors", "", []string{"--config", configuration, tiny + ":v6"}, []string{"mirrors"}},
		{"an archive", "", []string{archive}, []string{"archive"}},
		{"a backend without its type", "", []string{"--backend-config", "{}", tiny + ":v6"}, []string{"--backend-type"}},
		{"a backend without its configuration", "", []string{"--backend-type", "oss", tiny + ":v6"}, []string{"--backend-config"}},
		{"a backend that is none", "", []string{"--backend-type", "ftp", "--backend-config", "{}", tiny + ":v6"}, []string{"ftp"}},
		{"a backend that is no JSON", "", []string{"--backend-type", "oss", "--backend-config", "{secret", tiny + ":v6"}, []string{"not a JSON object"}},
		{"a backend that nydusd refuses", "", []string{"--backend-type", "oss", "--backend-config", `{"access_key_secret":"verysecret"}`, tiny + ":v6"}, []string{"nydusd ended"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			nydusd := c.nydusd
			if nydusd == "" {
				nydusd = testimage.Tools(t).Nydusd
			}
			refused(t, append([]string{"--mount", "nydusd", "--nydusd", nydusd}, c.args...), c.words...)
			assertNothingLeft(t, dir)
		})
	}
}

// TestNydusdRefusesCertificates: nydusd does not know those of docker and podman.
func TestNydusdRefusesCertificates(t *testing.T) {
	nydusd := throughNydusd(t)
	for _, command := range [][]string{nydusd, append([]string{"mount"}, nydusd[2:]...)} {
		args := append(slices.Clone(command), "registry.example/app:nydus")
		if args[0] == "mount" {
			args = append(args, t.TempDir())
		}
		p := prepare(t, "trivy-nydus", args...)
		folder := filepath.Join(p.Dir, ".config", "docker", "certs.d", "registry.example")
		require.NoError(t, os.MkdirAll(folder, 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(folder, "ca.crt"), nil, 0o644))
		require.NoError(t, p.Start())
		r := p.wait(t)
		assert.Equal(t, 2, r.code)
		assert.Contains(t, r.stderr, "nydusd cannot use the certificates in "+folder)
	}
}

// TestNydusdReadErrors: a read that fails in nydusd, or with it, fails the scan.
func TestNydusdReadErrors(t *testing.T) {
	nydusd := throughNydusd(t)
	var kill, stop sync.Once // it may ask for several ranges at the same time
	registry := testregistry.Start(t)
	publish(t, registry, testimage.Tiny(t))
	for _, c := range []struct {
		name, tag string
		read      func(t *testing.T, dir string, w http.ResponseWriter, r *http.Request)
		args      []string
		words     []string
	}{
		{"the registry refuses", "v5", func(_ *testing.T, _ string, w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusForbidden)
		}, nil, []string{"input/output error"}},
		{"other bytes", "v5", func(_ *testing.T, _ string, w http.ResponseWriter, r *http.Request) { lie(w, r) },
			nil, []string{"input/output error"}},
		{"nydusd is killed", "v5", func(t *testing.T, dir string, _ http.ResponseWriter, r *http.Request) {
			kill.Do(func() { assert.NoError(t, nydusdOf(t, dir).Kill()) })
			<-r.Context().Done()
		}, nil, []string{"nydusd ended", "killed"}},
		{"nydusd hangs", "v5", func(t *testing.T, dir string, _ http.ResponseWriter, r *http.Request) {
			stop.Do(func() { assert.NoError(t, nydusdOf(t, dir).Signal(unix.SIGSTOP)) })
			<-r.Context().Done()
		}, []string{"--timeout", "3s"}, []string{"--timeout"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := ownTemp(t)
			proxy := testregistry.CountingProxy(t, registry.Host())
			proxy.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
				if !isNydusd(r) {
					return false
				}
				c.read(t, dir, w, r)
				return true
			})
			began := time.Now()
			refused(t, slices.Concat(nydusd, c.args, []string{proxy.Host() + "/test/tiny:" + c.tag}), c.words...)
			assert.Less(t, time.Since(began), 30*time.Second)
			assertNothingLeft(t, dir)
		})
	}
}

// TestMountCommandRefuses: folders that cannot be mounted at.
func TestMountCommandRefuses(t *testing.T) {
	nydusd := throughNydusd(t)[2:]
	dir := ownTemp(t)
	reference := publish(t, testregistry.Start(t), testimage.Tiny(t)) + ":v5"
	base := t.TempDir()
	file := filepath.Join(base, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o644))
	busy := filepath.Join(base, "busy")
	require.NoError(t, os.Mkdir(busy, 0o755))
	require.NoError(t, unix.Mount("none", busy, "tmpfs", 0, ""))
	t.Cleanup(func() { assert.NoError(t, unix.Unmount(busy, 0)) })
	empty := filepath.Join(base, "empty")
	require.NoError(t, os.Mkdir(empty, 0o755))
	for _, c := range []struct {
		name   string
		nydusd string
		args   []string
		words  string
		hint   string
	}{
		{"not there", "", []string{reference, filepath.Join(base, "none")}, "no such folder", "give an empty folder"},
		{"a file", "", []string{reference, file}, "not a folder", "give an empty folder"},
		{"not empty", "", []string{reference, base}, "not empty", "give an empty folder"},
		{"busy", "", []string{reference, busy}, "mounted there already (tmpfs)", "give an empty folder"},
		{"no folder", "", []string{reference}, "got 1 arguments", "see trivy nydus mount --help"},
		{"no such image", "", []string{reference + "x", empty}, "not found", "check the image's name"},
		{"not Nydus", "", []string{strings.TrimSuffix(reference, "v5") + "oci", empty}, "not a Nydus image", "give a Nydus image"},
		{"nydusd dies", script(t, "exit 3"), []string{reference, empty}, "exit status 3", "trivy nydus scans an image without nydusd"},
		{"nydusd never serves", script(t, "sleep 60"), []string{"--timeout", "2s", reference, empty}, "--timeout", "give more time with --timeout"},
		{"no nydusd", "nydusd-that-is-not-there", []string{reference, empty}, "cargo install nydus-rs", "trivy nydus scans an image without nydusd"},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := append([]string{"mount"}, c.args...)
			if c.nydusd == "" {
				args = append(args, nydusd...)
			} else {
				args = append(args, "--nydusd", c.nydusd)
			}
			r := run(t, "trivy-nydus", args...)
			assert.Equal(t, 2, r.code)
			assert.Empty(t, r.stdout)
			assert.Contains(t, r.stderr, c.words)
			assert.Contains(t, r.stderr, "\nhint: "+c.hint)
			assertNothingLeft(t, dir)
		})
	}
}

// TestMountCommandNeedsFUSE: without the device, and without the right to mount.
func TestMountCommandNeedsFUSE(t *testing.T) {
	nydusd := throughNydusd(t)[2:]
	reference := publish(t, testregistry.Start(t), testimage.Tiny(t)) + ":v5"
	for _, c := range []struct {
		name, words string
		wrap        []string
	}{
		{"no device", "no FUSE here", []string{"unshare", "--mount", "sh", "-c",
			`mkdir dev && touch dev/null && mount --bind /dev/null dev/null && mount --rbind dev /dev && exec "$@"`, "sh"}},
		{"no rights to the device", "no right to use FUSE", []string{"setpriv", "--bounding-set=-all", "--inh-caps=-all", "--reuid=65534", "--clear-groups"}},
		{"no rights to mount", "mounting needs CAP_SYS_ADMIN", []string{"setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := exec.LookPath(c.wrap[0]); err != nil {
				t.Skipf("SKIPPED, NOTHING WAS TRIED: %v", err)
			}
			dir, point := ownTemp(t), t.TempDir()
			openToAll(t, dir)
			openToAll(t, point)
			p := prepare(t, "trivy-nydus")
			command := slices.Concat(c.wrap, []string{built(t, "trivy-nydus"), "mount", reference, point}, nydusd)
			wrapped := exec.Command(command[0], command[1:]...)
			wrapped.Dir, wrapped.Env, wrapped.Stdout, wrapped.Stderr = p.Dir, p.Env, &p.stdout, &p.stderr
			p.Cmd = wrapped
			require.NoError(t, p.Start())
			r := p.wait(t)
			assert.Equal(t, 2, r.code, r.stderr)
			assert.Contains(t, r.stderr, c.words)
			assertNothingLeft(t, dir)
		})
	}
}

// openToAll lets other users into a folder that t.TempDir has made.
func openToAll(t *testing.T, dir string) {
	t.Helper()
	for _, path := range []string{dir, filepath.Dir(dir)} {
		require.NoError(t, os.Chmod(path, 0o777))
	}
}

// TestSeveralMounts: two mounts and a scan at once; the end of one is not felt
// by the others.
func TestSeveralMounts(t *testing.T) {
	nydusd := throughNydusd(t)
	dir := ownTemp(t)
	repository := publish(t, testregistry.Start(t), testimage.Tiny(t))
	var commands []*process
	var points []string
	for _, tag := range []string{"v5", "v6", "v6"} {
		point := t.TempDir()
		points = append(points, point)
		p := prepare(t, "trivy-nydus", append([]string{"mount", repository + ":" + tag, point}, nydusd[2:]...)...)
		startMount(t, p)
		commands = append(commands, p)
	}
	// The same folder a second time.
	r := run(t, "trivy-nydus", append([]string{"mount", repository + ":v5", points[0]}, nydusd[2:]...)...)
	assert.Equal(t, 2, r.code)
	assert.Contains(t, r.stderr, "mounted there already (fuse)")

	scan := report(t, "trivy-nydus", slices.Concat(scanFlags, nydusd, []string{"--cache-dir", t.TempDir(), repository + ":v6"})...)
	assert.Contains(t, fmt.Sprint(scan["Results"]), testimage.SecretPath)
	require.NoError(t, commands[0].Process.Kill())
	_ = commands[0].Wait()
	eventually(t, "the first is gone", func() bool { return len(mountsUnder(t, filepath.Dir(points[0]))) == 2 })
	for i, point := range points[1:] {
		data, err := os.ReadFile(filepath.Join(point, testimage.SecretPath))
		assert.NoError(t, err)
		assert.NotEmpty(t, data)
		require.NoError(t, commands[i+1].Process.Signal(os.Interrupt))
		assert.Zero(t, commands[i+1].wait(t).code)
	}
	eventually(t, "all is gone", func() bool { return len(leftovers(t, dir)) == 0 })
}

// TestMountCommandNydusdDies: the command notices, and leaves nothing.
func TestMountCommandNydusdDies(t *testing.T) {
	nydusd := throughNydusd(t)[2:]
	dir, point := ownTemp(t), t.TempDir()
	reference := publish(t, testregistry.Start(t), testimage.Tiny(t)) + ":v5"
	p := prepare(t, "trivy-nydus", append([]string{"mount", reference, point}, nydusd...)...)
	stderr := startMount(t, p)
	require.NoError(t, nydusdOf(t, dir).Kill())
	r := p.wait(t)
	assert.Equal(t, 2, r.code)
	assert.Contains(t, stderr.text(), "nydusd ended: signal: killed")
	assert.Empty(t, mountsUnder(t, filepath.Dir(point)))
	assertNothingLeft(t, dir)
}

// TestMountCommandAfterCrash: what a crash of everything but the kernel left
// behind is cleaned by the next start.
func TestMountCommandAfterCrash(t *testing.T) {
	nydusd := throughNydusd(t)[2:]
	dir, point := ownTemp(t), t.TempDir()
	reference := publish(t, testregistry.Start(t), testimage.Tiny(t)) + ":v5"
	mounted := func() bool { _, err := os.Stat(filepath.Join(point, testimage.SecretPath)); return err == nil }
	command := append([]string{"mount", reference, point}, nydusd...)
	p := start(t, "trivy-nydus", command...)
	eventually(t, "it is mounted", mounted)
	// The plugin first: alive, it would clean up after its watcher.
	require.NoError(t, p.Process.Signal(unix.SIGSTOP))
	for number := range processesOf(dir) {
		require.NoError(t, unix.Kill(number, unix.SIGKILL))
	}
	_ = p.Wait()
	eventually(t, "all processes are gone", func() bool { return len(processesOf(dir)) == 0 })
	require.Len(t, mountsUnder(t, filepath.Dir(point)), 1, "the dead mount")
	require.Len(t, leftovers(t, dir), 1, "the run folder")

	r := run(t, "trivy-nydus", append([]string{"mount", reference, point, "--timeout", "3s", "--nydusd"}, script(t, "exit 3"))...)
	require.Contains(t, r.stderr, "exit status 3")
	assert.Empty(t, mountsUnder(t, filepath.Dir(point)))
	assertNothingLeft(t, dir)
}
