//go:build linux

package nydusmount_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// TestMain lets the test binary be the watcher, as main does with the plugin.
func TestMain(m *testing.M) {
	if code, is := nydusmount.Watcher(os.Args[1:]); is {
		os.Exit(code)
	}
	os.Exit(m.Run())
}

func needFUSE(t testing.TB) {
	t.Helper()
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("SKIPPED, NOTHING WAS MOUNTED: nydusd cannot mount here: %v", err)
	}
	f.Close()
}

// temp gives nydusd a folder for temporary files of the test's own.
func temp(t *testing.T) string {
	t.Helper()
	needFUSE(t)
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	return dir
}

// runFolders lists the run folders there are.
func runFolders(t testing.TB, dir string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "trivy-nydus-mount-*"))
	require.NoError(t, err)
	return found
}

// assertGone looks for run folders and mounts below dir.
func assertGone(t testing.TB, dir string) {
	t.Helper()
	assert.Empty(t, runFolders(t, dir))
	table, err := os.ReadFile("/proc/self/mountinfo")
	require.NoError(t, err)
	assert.NotContains(t, string(table), " "+dir+"/")
}

// layout stores an image as an OCI layout and opens it.
func layout(t *testing.T, spec testimage.Spec, options testimage.ConvertOptions) *nydusimage.Image {
	t.Helper()
	dir := t.TempDir()
	testimage.WriteLayout(t, dir, map[string]any{"nydus": testimage.Convert(t, testimage.BuildOCI(t, spec), options)})
	return opened(t, dir, nydusimage.Options{})
}

func opened(t *testing.T, target string, options nydusimage.Options) *nydusimage.Image {
	t.Helper()
	image, err := nydusimage.Open(t.Context(), target, options)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, image.Close()) })
	return image
}

// TestNydusdGivesTheBytesOfNative reads every file both ways.
func TestNydusdGivesTheBytesOfNative(t *testing.T) {
	dir := temp(t)
	for _, version := range []string{"5", "6"} {
		t.Run("v"+version, func(t *testing.T) {
			image := layout(t, testimage.Odd(t), testimage.ConvertOptions{FSVersion: version})
			native, err := nydusmount.Native(t.Context(), image)
			require.NoError(t, err)
			mount, err := nydusmount.Nydusd(t.Context(), image, nydusmount.Options{Program: testimage.Tools(t).Nydusd})
			require.NoError(t, err)
			want := map[string]nydusmount.Verification{"5": nydusmount.VerifiedByNydusd, "6": nydusmount.NotVerified}
			assert.Equal(t, want[version], mount.Verified)
			assert.Equal(t, nydusmount.Verified, native.Verified)
			assert.NotEmpty(t, mount.NoLayers)
			files := 0
			require.NoError(t, mount.Merged.Walk(func(path string, inode rafs.Inode) error {
				if !inode.IsRegular() {
					return nil
				}
				files++
				a, b := native.Merged.Open(path, inode), mount.Merged.Open(path, inode)
				defer a.Close()
				defer b.Close()
				expected, err := io.ReadAll(a)
				require.NoError(t, err)
				got, err := io.ReadAll(b)
				require.NoError(t, err, path)
				assert.Equal(t, expected, got, path)
				if len(got) > 1 {
					part := make([]byte, len(got)/2)
					_, err = b.ReadAt(part, int64(len(got)-len(part)))
					assert.NoError(t, err)
					assert.Equal(t, expected[len(got)-len(part):], part)
				}
				info, err := b.Stat()
				require.NoError(t, err)
				assert.Equal(t, int64(len(got)), info.Size())
				return nil
			}))
			assert.NotZero(t, files)
			requests, bytes := mount.Traffic(t.Context())
			assert.NotZero(t, requests)
			assert.NotZero(t, bytes)
			require.NoError(t, mount.Close())
			assert.NoError(t, mount.Close(), "a second time")
			assertGone(t, dir)
		})
	}
}

// TestNydusdReadsOCILayers: an image whose data stays in the layers of another
// (zran) is read from a registry and from a folder.
func TestNydusdReadsOCILayers(t *testing.T) {
	dir := temp(t)
	source := testimage.BuildOCI(t, testimage.Tiny(t))
	converted := testimage.Convert(t, source, testimage.ConvertOptions{OCIRef: true})
	folder := t.TempDir()
	testimage.WriteLayout(t, folder, map[string]any{"oci": source, "nydus": converted})
	repository := testregistry.Start(t).Host() + "/test/tiny"
	testimage.Push(t, repository+":oci", source)
	testimage.Push(t, repository+":nydus", converted)
	for _, target := range []string{folder + ":nydus", repository + ":nydus"} {
		image := opened(t, target, nydusimage.Options{})
		native, err := nydusmount.Native(t.Context(), image)
		require.NoError(t, err)
		mount, err := nydusmount.Nydusd(t.Context(), image, nydusmount.Options{Program: testimage.Tools(t).Nydusd})
		require.NoError(t, err)
		require.NoError(t, mount.Merged.Walk(func(path string, inode rafs.Inode) error {
			if !inode.IsRegular() {
				return nil
			}
			want, err := io.ReadAll(native.Merged.Open(path, inode))
			require.NoError(t, err)
			got, err := io.ReadAll(mount.Merged.Open(path, inode))
			require.NoError(t, err, path)
			assert.Equal(t, want, got, path)
			return nil
		}))
		require.NoError(t, mount.Close())
	}
	assertGone(t, dir)
}

// TestNydusdFileDiffers: what the mount shows in place of a file of the
// bootstrap is an error, and no other file's bytes.
func TestNydusdFileDiffers(t *testing.T) {
	temp(t)
	image := layout(t, testimage.Odd(t), testimage.ConvertOptions{})
	mount, err := nydusmount.Nydusd(t.Context(), image, nydusmount.Options{Program: testimage.Tools(t).Nydusd})
	require.NoError(t, err)
	defer mount.Close()
	var a, b string
	var inode rafs.Inode
	require.NoError(t, mount.Merged.Walk(func(path string, i rafs.Inode) error {
		switch {
		case i.IsRegular() && i.Size > 0 && a == "":
			a, inode = path, i
		case i.IsRegular() && a != "" && i.Size != inode.Size:
			b = path
		}
		return nil
	}))
	for _, name := range []string{b, "not/there", "../../../etc/passwd"} {
		_, err := mount.Merged.Open(name, inode).Read(make([]byte, 1))
		assert.Error(t, err, name)
		assert.NotErrorIs(t, err, io.EOF, name)
	}
}

// TestNydusdCredentials: the login reaches nydusd, and nobody else.
func TestNydusdCredentials(t *testing.T) {
	dir := temp(t)
	const user, password = "scanner", "correct-horse"
	registry := testregistry.Start(t, testregistry.WithHtpasswd(user, password))
	reference := registry.Host() + "/test/tiny:v6"
	login := &authn.Basic{Username: user, Password: password}
	testimage.Push(t, reference, testimage.Convert(t, testimage.BuildOCI(t, testimage.Tiny(t)), testimage.ConvertOptions{}), remote.WithAuth(login))
	image := opened(t, reference, nydusimage.Options{Credentials: []authn.Authenticator{login}})

	// A nydusd that waits lets the configuration be seen.
	gate := filepath.Join(t.TempDir(), "gate")
	slow := fake(t, fmt.Sprintf("while ! [ -e %s ]; do sleep 0.05; done; exec $REAL \"$@\"", gate))
	started := make(chan *nydusmount.Mount)
	go func() {
		mount, err := nydusmount.Nydusd(context.WithoutCancel(t.Context()), image, nydusmount.Options{Program: slow})
		assert.NoError(t, err)
		started <- mount
	}()
	var config string
	require.Eventually(t, func() bool {
		found, _ := filepath.Glob(filepath.Join(dir, "trivy-nydus-mount-*", "nydusd.log"))
		if len(found) == 1 {
			config = filepath.Join(filepath.Dir(found[0]), "config.json")
		}
		return len(found) == 1
	}, 10*time.Second, 10*time.Millisecond)
	info, err := os.Stat(config)
	require.NoError(t, err)
	assert.Equal(t, fs.FileMode(0o600), info.Mode())
	info, err = os.Stat(filepath.Dir(config))
	require.NoError(t, err)
	assert.Equal(t, fs.FileMode(0o700), info.Mode().Perm())
	var written struct {
		Backend struct{ Registry map[string]any }
	}
	data, err := os.ReadFile(config)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, &written))
	assert.Equal(t, "http", written.Backend.Registry["scheme"])
	assert.Equal(t, registry.Host(), written.Backend.Registry["host"])
	assert.Equal(t, "test/tiny", written.Backend.Registry["repo"])
	auth := written.Backend.Registry["auth"].(string)
	assert.Equal(t, "c2Nhbm5lcjpjb3JyZWN0LWhvcnNl", auth)
	commands, err := exec.Command("ps", "axeww").Output()
	require.NoError(t, err)
	assert.NotContains(t, string(commands), auth)
	assert.NotContains(t, string(commands), password)

	require.NoError(t, os.WriteFile(gate, nil, 0o644))
	mount := <-started
	require.NotNil(t, mount)
	defer mount.Close()
	assert.NoFileExists(t, config)
	require.NoError(t, filepath.WalkDir(filepath.Dir(config), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			data, _ := os.ReadFile(path)
			assert.NotContains(t, string(data), auth, path)
		}
		return nil
	}))
	file, err := mount.Merged.Lookup(testimage.SecretPath)
	require.NoError(t, err)
	text, err := io.ReadAll(mount.Merged.Open(testimage.SecretPath, file))
	require.NoError(t, err)
	assert.Contains(t, string(text), "GITHUB_PAT")
	require.NoError(t, mount.Close())
	assertGone(t, dir)
}

// TestNydusdRefusesTokens: nydusd knows user names and passwords only.
func TestNydusdRefusesTokens(t *testing.T) {
	dir := temp(t)
	registry := testregistry.Start(t)
	reference := registry.Host() + "/test/tiny:v6"
	testimage.Push(t, reference, testimage.Convert(t, testimage.BuildOCI(t, testimage.Tiny(t)), testimage.ConvertOptions{}))
	for _, login := range []authn.Authenticator{
		&authn.Bearer{Token: "secret-token"},
		authn.FromConfig(authn.AuthConfig{IdentityToken: "secret-token"}),
	} {
		image := opened(t, reference, nydusimage.Options{Credentials: []authn.Authenticator{login}})
		_, err := nydusmount.Nydusd(t.Context(), image, nydusmount.Options{Program: testimage.Tools(t).Nydusd})
		require.ErrorIs(t, err, nydusmount.ErrRefused)
		assert.ErrorContains(t, err, "token")
		assert.NotContains(t, err.Error(), "secret-token")
		assertGone(t, dir)
	}
}

// fake is nydusd but for what it does when it is to mount.
func fake(t *testing.T, body string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "nydusd")
	text := fmt.Sprintf("#!/bin/sh\nREAL=%s\ncase \"$1\" in fuse) ;; *) exec $REAL \"$@\";; esac\n%s\n", testimage.Tools(t).Nydusd, body)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o755))
	return path
}

// TestNydusdTLS: a certificate that nobody vouches for is refused, and taken
// where the user says so.
func TestNydusdTLS(t *testing.T) {
	dir := temp(t)
	registry := testregistry.Start(t, testregistry.WithTLS())
	reference := registry.Host() + "/test/tiny:v5"
	carrier := registry.Client().Transport
	testimage.Push(t, reference, testimage.Convert(t, testimage.BuildOCI(t, testimage.Tiny(t)), testimage.ConvertOptions{FSVersion: "5"}), remote.WithTransport(carrier))
	image := opened(t, reference, nydusimage.Options{Transport: carrier.(http.RoundTripper)})
	options := nydusmount.Options{Program: testimage.Tools(t).Nydusd, StartTimeout: 20 * time.Second}
	read := func() error {
		mount, err := nydusmount.Nydusd(t.Context(), image, options)
		if err != nil {
			return err
		}
		defer mount.Close()
		file, err := mount.Merged.Lookup(testimage.SecretPath)
		require.NoError(t, err)
		_, err = io.ReadAll(mount.Merged.Open(testimage.SecretPath, file))
		return err
	}
	assert.ErrorContains(t, read(), "certificate")
	options.SkipVerify = true
	assert.NoError(t, read())
	assertGone(t, dir)
}

// TestNydusdBackend: the data is read from where the user says, and the
// registry's login is not given to nydusd.
func TestNydusdBackend(t *testing.T) {
	dir := temp(t)
	registry := testregistry.Start(t)
	proxy := testregistry.CountingProxy(t, registry.Host())
	converted := testimage.Convert(t, testimage.BuildOCI(t, testimage.Tiny(t)), testimage.ConvertOptions{})
	reference := proxy.Host() + "/test/tiny:v6"
	testimage.Push(t, reference, converted)
	image := opened(t, reference, nydusimage.Options{})
	mount, err := nydusmount.Nydusd(t.Context(), image, nydusmount.Options{Program: testimage.Tools(t).Nydusd, Backend: localfs(t, converted.BlobDir)})
	require.NoError(t, err)
	defer mount.Close()
	proxy.Reset()
	file, err := mount.Merged.Lookup(testimage.SecretPath)
	require.NoError(t, err)
	_, err = io.ReadAll(mount.Merged.Open(testimage.SecretPath, file))
	assert.NoError(t, err)
	assert.Zero(t, proxy.Requests())
	require.NoError(t, mount.Close())
	assertGone(t, dir)
}

// TestNydusdStartFails: each error says why, shows nydusd's last words without
// credentials, and leaves nothing.
func TestNydusdStartFails(t *testing.T) {
	dir := temp(t)
	image := layout(t, testimage.Tiny(t), testimage.ConvertOptions{})
	backend, err := nydusmount.ParseBackend("oss", []byte(`{"endpoint":"e","bucket_name":"b","access_key_secret":"very-secret"}`))
	require.NoError(t, err)
	for _, c := range []struct {
		name    string
		program string
		words   []string
	}{
		{"it dies", fake(t, "cat config.json; exit 7"), []string{"exit status 7", `"bucket_name":"b"`, `"access_key_secret":"***"`}},
		{"it never serves", fake(t, "exec sleep 60"), []string{"does not serve after 1s"}},
		{"it stops", fake(t, "kill -STOP $$"), []string{"does not serve after 1s"}},
		{"it leaves children", fake(t, "sleep 60 & exit 7"), []string{"exit status 7"}},
		{"its children go with it", fake(t, "sleep 60 & sleep 60"), []string{"does not serve after 1s"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			began := time.Now()
			_, err := nydusmount.Nydusd(t.Context(), image, nydusmount.Options{Program: c.program, StartTimeout: time.Second, Backend: backend})
			require.ErrorIs(t, err, nydusmount.ErrNydusd)
			for _, word := range c.words {
				assert.ErrorContains(t, err, word)
			}
			assert.NotContains(t, err.Error(), "very-secret")
			assert.Less(t, time.Since(began), 10*time.Second)
			assertGone(t, dir)
			running, err := exec.Command("ps", "axeww").Output()
			require.NoError(t, err)
			for line := range strings.Lines(string(running)) {
				if strings.Contains(line, "TMPDIR="+dir) && strings.Contains(line, "sleep 60") {
					t.Error(line)
				}
			}
		})
	}
}

// TestNydusdEndsWithItsContext: a read that hangs ends, too.
func TestNydusdEndsWithItsContext(t *testing.T) {
	dir := temp(t)
	registry := testregistry.Start(t)
	proxy := testregistry.CountingProxy(t, registry.Host())
	reference := proxy.Host() + "/test/tiny:v5"
	testimage.Push(t, reference, testimage.Convert(t, testimage.BuildOCI(t, testimage.Tiny(t)), testimage.ConvertOptions{FSVersion: "5"}))
	image := opened(t, reference, nydusimage.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	mount, err := nydusmount.Nydusd(ctx, image, nydusmount.Options{Program: testimage.Tools(t).Nydusd})
	require.NoError(t, err)
	proxy.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		cancel()
		<-r.Context().Done()
		return true
	})
	file, err := mount.Merged.Lookup(testimage.SecretPath)
	require.NoError(t, err)
	_, err = io.ReadAll(mount.Merged.Open(testimage.SecretPath, file))
	assert.Error(t, err)
	assert.NoError(t, mount.Close())
	assertGone(t, dir)
}

// TestWatcherKilled: the plugin notices that its watcher is gone, and nydusd
// with it, and cleans up itself.
func TestWatcherKilled(t *testing.T) {
	dir := temp(t)
	image := layout(t, testimage.Tiny(t), testimage.ConvertOptions{})
	daemon, err := nydusmount.StartDaemon(t.Context(), image, nydusmount.Options{Program: testimage.Tools(t).Nydusd})
	require.NoError(t, err)
	children, err := exec.Command("pgrep", "-P", fmt.Sprint(os.Getpid()), "-f", "--", "--watch-nydusd").Output()
	require.NoError(t, err)
	var watcher int
	_, err = fmt.Sscan(string(children), &watcher)
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(watcher, syscall.SIGKILL))
	select {
	case <-daemon.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("it is not noticed")
	}
	assert.ErrorIs(t, daemon.Err(), nydusmount.ErrNydusd)
	assert.NoError(t, daemon.Close())
	assertGone(t, dir)
}
