package e2e

import (
	"encoding/base64"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
)

const (
	secretPassword  = "battery-staple-47"
	secretSignature = "signature-of-storage"
)

// secretTexts are what nobody may see, however it is spelled.
var secretTexts = []string{secretPassword, secretSignature, base64.StdEncoding.EncodeToString([]byte("reader:" + secretPassword))}

func assertNoSecret(t *testing.T, where, text string) {
	t.Helper()
	for _, secret := range secretTexts {
		if at := strings.Index(text, secret); at >= 0 {
			t.Errorf("%s shows %q: …%s", where, secret, text[max(0, at-200):at])
		}
	}
}

// assertNoSecretBelow looks into what a command left in its folder, but for docker's
// configuration.
func assertNoSecretBelow(t *testing.T, dir string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || path == filepath.Join(dir, "config.json") {
			return err
		}
		data, err := os.ReadFile(path)
		assertNoSecret(t, path, string(data))
		return err
	}))
}

// dockerLogin gives a command a configuration of docker with a login.
func (p *process) dockerLogin(t *testing.T, host string) {
	t.Helper()
	config := fmt.Sprintf(`{"auths": {%q: {"auth": %q}}}`, host, secretTexts[2])
	require.NoError(t, os.WriteFile(filepath.Join(p.Dir, "config.json"), []byte(config), 0o600))
}

// lockedRegistry asks for a login and redirects blobs to signed addresses of a
// storage. It has one image, tags oci, v5 and v6. storage says what the storage
// answers instead of the blob, if it is not 0.
func lockedRegistry(t *testing.T) (host string, storage *atomic.Int32) {
	t.Helper()
	registry := testregistry.Start(t, testregistry.WithHtpasswd("reader", secretPassword))
	login := remote.WithAuth(&authn.Basic{Username: "reader", Password: secretPassword})
	oci := testimage.BuildOCI(t, testimage.SecretCmd(t))
	testimage.Push(t, registry.Host()+"/test/locked:oci", oci, login)
	for _, version := range []string{"5", "6"} {
		testimage.Push(t, registry.Host()+"/test/locked:v"+version, testimage.Convert(t, oci, testimage.ConvertOptions{FSVersion: version}), login)
	}
	status := new(atomic.Int32)
	backend := testregistry.CountingProxy(t, registry.Host())
	backend.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		assert.Empty(t, r.Header.Get("Authorization"), "sent to the storage")
		if code := int(status.Load()); code != 0 {
			w.WriteHeader(code)
			return true
		}
		r.SetBasicAuth("reader", secretPassword) // its own
		return false
	})
	front := testregistry.CountingProxy(t, registry.Host())
	front.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if _, _, ok := r.BasicAuth(); !ok || !strings.Contains(r.URL.Path, "/blobs/") {
			return false
		}
		http.Redirect(w, r, backend.URL()+r.URL.Path+"?X-Amz-Signature="+secretSignature, http.StatusTemporaryRedirect)
		return true
	})
	return front.Host(), status
}

// TestNothingSecretShown looks for the login and for signatures in all that a
// command leaves: output, logs at every level, evidence, report and cache.
func TestNothingSecretShown(t *testing.T) {
	host, storage := lockedRegistry(t)
	image := host + "/test/locked"
	for _, c := range []struct {
		name    string
		code    int
		storage int32
		args    []string
		says    string
	}{
		{"scan", 0, 0, append(slices.Clone(scanFlags), "--debug", "--format", "json", "--evidence", "evidence.json", image+":v6"), "chunks verified"},
		{"scan with a trace", 0, 0, append(slices.Clone(scanFlags), "--debug", "--trace-http", "--format", "json", image+":v5"), "HTTP REQUEST"},
		{"scan of a storage that refuses", 2, 403, append(slices.Clone(scanFlags), "--debug", "--trace-http", image+":v6"), "403"},
		{"check", 0, 0, []string{"check", "--debug", "--trace-http", "--format", "json", image + ":oci", image + ":v6"}, ""},
		{"check of a storage that refuses", 2, 404, []string{"check", "--debug", image + ":oci", image + ":v6"}, "404"},
		{"inspect", 0, 0, []string{"inspect", "--debug", image + ":v6", "layers"}, ""},
		{"scan of an image that is not Nydus", 0, 0, append(slices.Clone(scanFlags), "--debug", "--format", "json", image+":oci"), "is not a Nydus image"},
	} {
		t.Run(c.name, func(t *testing.T) {
			storage.Store(c.storage)
			p := prepare(t, "trivy-nydus", append(slices.Clone(c.args), "--cache-dir", "cache")...)
			p.dockerLogin(t, host)
			require.NoError(t, p.Start())
			words, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.Process.Pid))
			if err == nil {
				assertNoSecret(t, "its command line", string(words))
			}
			r := p.wait(t)
			assert.Equal(t, c.code, r.code, r.stderr)
			assert.Contains(t, r.stderr, c.says)
			assertNoSecret(t, "stdout", r.stdout)
			assertNoSecret(t, "stderr", r.stderr)
			assertNoSecretBelow(t, p.Dir)
		})
	}
	t.Run("a wrong password", func(t *testing.T) {
		storage.Store(0)
		p := prepare(t, "trivy-nydus", append(slices.Clone(scanFlags), "--debug", "--trace-http", "--cache-dir", "cache", image+":none")...)
		p.Env = append(p.Env, "TRIVY_USERNAME=writer", "TRIVY_PASSWORD="+secretPassword)
		require.NoError(t, p.Start())
		r := p.wait(t)
		assert.Equal(t, 2, r.code)
		assertNoSecret(t, "stderr", r.stderr)
		assert.NotContains(t, r.stderr, base64.StdEncoding.EncodeToString([]byte("writer:"+secretPassword)))
	})
}

// TestLoginOfFlags: the login that flags and variables give goes to the image's
// registry, not to that of the databases, and not to one of several.
func TestLoginOfFlags(t *testing.T) {
	host, _ := lockedRegistry(t)
	other := testregistry.CountingProxy(t, host)
	var mu sync.Mutex
	var told []string
	other.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		if sent := r.Header.Get("Authorization"); sent != "" {
			told = append(told, sent)
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	scan := func(args ...string) result {
		p := prepare(t, "trivy-nydus", append(args, "--format", "json", "--cache-dir", t.TempDir())...)
		p.Env = append(p.Env, "TRIVY_USERNAME=reader", "TRIVY_PASSWORD="+secretPassword)
		require.NoError(t, p.Start())
		return p.wait(t)
	}
	image := host + "/test/locked:v6"
	r := scan(append(slices.Clone(scanFlags), image)...)
	require.Zero(t, r.code, r.stderr)
	assert.Contains(t, r.stdout, "github-pat")
	r = scan(append(slices.Clone(scanFlags), image, other.Host()+"/test/locked:v6")...)
	assert.Equal(t, 2, r.code)
	assert.Contains(t, r.stderr, "do not say for which of "+host+", "+other.Host())
	assert.Zero(t, other.Requests())
	r = scan("--scanners", "vuln", "--db-repository", other.Host()+"/trivy-db:2", "--skip-version-check", "--disable-telemetry", "--offline-scan", image)
	assert.Equal(t, 2, r.code)
	assert.NotZero(t, other.Requests(), "the database was asked for")
	assert.Empty(t, told)
}

// TestNydusdSecrets looks for the login while nydusd is started with it: on no
// command line, in no file that others can read, and in none once it serves.
func TestNydusdSecrets(t *testing.T) {
	nydusd := throughNydusd(t)[2:]
	registry := testregistry.Start(t, testregistry.WithHtpasswd("reader", secretPassword))
	login := remote.WithAuth(&authn.Basic{Username: "reader", Password: secretPassword})
	testimage.Push(t, registry.Host()+"/test/locked:v6", testimage.Convert(t, testimage.BuildOCI(t, testimage.SecretCmd(t)), testimage.ConvertOptions{}), login)
	dir := ownTemp(t)
	p := prepare(t, "trivy-nydus", append([]string{"mount", registry.Host() + "/test/locked:v6", "image", "--debug"}, nydusd...)...)
	p.dockerLogin(t, registry.Host())
	point := filepath.Join(p.Dir, "image")
	require.NoError(t, os.Mkdir(point, 0o755))
	stop, stopped := make(chan struct{}), make(chan int)
	go func() {
		seen := 0
		for {
			select {
			case <-stop:
				stopped <- seen
				return
			default:
				seen += lookForSecrets(t, dir)
			}
		}
	}()
	stderr := startMount(t, p)
	assert.FileExists(t, filepath.Join(point, testimage.SecretPath))
	_, err := os.ReadFile(filepath.Join(point, testimage.SecretPath))
	require.NoError(t, err, "nydusd has logged in")
	assert.Zero(t, lookForSecrets(t, dir), "files with the login, once it serves")
	close(stop)
	t.Logf("the configuration was seen %d times", <-stopped)
	require.NoError(t, p.Process.Signal(unix.SIGINT))
	r := p.wait(t)
	assert.Zero(t, r.code, stderr.text())
	assertNoSecret(t, "stderr", stderr.text())
	assertNoSecret(t, "stdout", r.stdout)
	assertNothingLeft(t, dir)
}

// lookForSecrets reads all command lines, and all files in a folder: how many hold
// a secret, which only their owner may read.
func lookForSecrets(t *testing.T, dir string) int {
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, name := range lines {
		words, _ := os.ReadFile(name) // gone again, mostly
		assertNoSecret(t, name, string(words))
	}
	found := 0
	_ = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() && filepath.Base(path) == "mnt" || !entry.IsDir() && !entry.Type().IsRegular() {
			return nil
		}
		info, err := entry.Info()
		if err != nil || entry.IsDir() || info.Size() > 1<<20 {
			return nil
		}
		data, _ := os.ReadFile(path)
		if slices.ContainsFunc(secretTexts, func(s string) bool { return strings.Contains(string(data), s) }) {
			found++
			assert.Zero(t, info.Mode().Perm()&0o077, "%s can be read by others: %v", path, info.Mode())
		}
		return nil
	})
	return found
}
