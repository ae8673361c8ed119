package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
)

// forwardProxy is an HTTP proxy that sends every request to one host, and
// remembers what it was asked for. It refuses to tunnel.
func forwardProxy(t *testing.T, to string) (address string, asked func() []string) {
	t.Helper()
	var mu sync.Mutex
	var log []string
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host = "http", to
	}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		log = append(log, r.Method+" "+r.URL.String())
		mu.Unlock()
		if r.Method == http.MethodConnect {
			http.Error(w, "no tunnels", http.StatusForbidden)
			return
		}
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL, func() []string { mu.Lock(); defer mu.Unlock(); return slices.Clone(log) }
}

// TestProxyVariables reads an image from a host that only the proxy knows.
func TestProxyVariables(t *testing.T) {
	registry := testregistry.Start(t)
	publish(t, registry, testimage.SecretCmd(t))
	proxy, asked := forwardProxy(t, registry.Host())
	const image = "registry.test:5000/test/secret-cmd:v6"
	scan := func(env []string, flags ...string) result {
		p := prepare(t, "trivy-nydus", slices.Concat(scanFlags, flags, []string{"--quiet", "--format", "json", "--cache-dir", t.TempDir(), image})...)
		p.Env = append(p.Env, env...)
		require.NoError(t, p.Start())
		return p.wait(t)
	}
	r := scan([]string{"HTTP_PROXY=" + proxy}, "--plain-http")
	require.Zero(t, r.code, r.stderr)
	assert.Contains(t, r.stdout, "github-pat")
	for _, part := range []string{"/v2/ ", "/manifests/", "/blobs/"} {
		assert.Contains(t, strings.Join(asked(), " \n")+" ", part, "all kinds of requests go through the proxy")
	}

	before := len(asked())
	r = scan([]string{"HTTP_PROXY=" + proxy, "NO_PROXY=registry.test"}, "--plain-http")
	assert.Equal(t, 2, r.code, "a name that does not exist")
	assert.Len(t, asked(), before, "NO_PROXY")

	// Without --plain-http there is TLS or nothing: the proxy is asked for a
	// tunnel, refuses, and sees no plain request afterwards.
	r = scan([]string{"HTTP_PROXY=" + proxy, "HTTPS_PROXY=" + proxy})
	assert.Equal(t, 2, r.code, r.stderr)
	for _, request := range asked()[before:] {
		assert.True(t, strings.HasPrefix(request, "CONNECT "), request)
	}
}

// TestNothingButTheRegistry scans with all scanners and everything else switched
// off. The registry on loopback is asked directly; all else would ask the proxy.
func TestNothingButTheRegistry(t *testing.T) {
	registry := testregistry.Start(t)
	repository := publish(t, registry, testimage.Tiny(t))
	counted := testregistry.CountingProxy(t, registry.Host())
	proxy, asked := forwardProxy(t, registry.Host())
	p := prepare(t, "trivy-nydus", append(slices.Clone(allScanners), "--quiet", "--format", "json", "--cache-dir", cacheDir(t),
		strings.Replace(repository, registry.Host(), counted.Host(), 1)+":v6")...)
	p.Env = append(p.Env, "HTTP_PROXY="+proxy, "HTTPS_PROXY="+proxy)
	require.NoError(t, p.Start())
	r := p.wait(t)
	require.Zero(t, r.code, r.stderr)
	assert.NotZero(t, counted.Requests())
	assert.Empty(t, asked())
}

// TestCertificates reads from a registry whose certificate nobody has signed
// but its own authority.
func TestCertificates(t *testing.T) {
	registry := testregistry.Start(t, testregistry.WithTLS())
	authority := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(authority, registry.CA(), 0o644))
	repository := registry.Host() + "/test/secret-cmd"
	converted := testimage.Convert(t, testimage.BuildOCI(t, testimage.SecretCmd(t)), testimage.ConvertOptions{})
	testimage.Push(t, repository+":v6", converted, remote.WithTransport(registry.Client().Transport))
	for _, flags := range [][]string{{"--cacert", authority}, {"--insecure"}} {
		r := run(t, "trivy-nydus", slices.Concat(scanFlags, flags, []string{"--quiet", "--format", "json", "--cache-dir", t.TempDir(), repository + ":v6"})...)
		require.Zero(t, r.code, "%v: %s", flags, r.stderr)
		assert.Contains(t, r.stdout, "github-pat")
	}
	refused(t, []string{repository + ":v6"}, "certificate")
	refused(t, []string{"--plain-http", repository + ":v6"}, "HTTPS server")
}

// TestMirrorOfConfiguration names a mirror in trivy.yaml, as Trivy has it.
func TestMirrorOfConfiguration(t *testing.T) {
	registry := testregistry.Start(t)
	publish(t, registry, testimage.SecretCmd(t))
	config := filepath.Join(t.TempDir(), "trivy.yaml")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, "registry:\n  mirrors:\n    registry.test:\n      - %s\n", registry.Host()), 0o644))
	r := run(t, "trivy-nydus", append(slices.Clone(scanFlags), "--config", config, "--format", "json", "--cache-dir", t.TempDir(), "registry.test/test/secret-cmd:v6")...)
	require.Zero(t, r.code, r.stderr)
	assert.Contains(t, r.stdout, "github-pat")
	assert.Contains(t, r.stderr, "mirror "+registry.Host())
}

// slowly is a reference of a registry by way of a link that is slow enough for
// progress to be seen: the bar is drawn five times a second.
func slowly(t *testing.T, registry *testregistry.Registry, reference string) string {
	t.Helper()
	proxy := testregistry.CountingProxy(t, registry.Host())
	proxy.Shape(testregistry.Link{BytesPerSecond: 8e6, RoundTrip: 100 * time.Millisecond})
	return strings.Replace(reference, registry.Host(), proxy.Host(), 1)
}

// TestProgressOnTerminal looks at a terminal, where the scan shows how far it
// is, and at a pipe, where it does not.
func TestProgressOnTerminal(t *testing.T) {
	registry := testregistry.Start(t)
	repository := slowly(t, registry, publish(t, registry, testimage.DebianApp(t)))
	args := slices.Concat([]string{built(t, "trivy-nydus")}, scanFlags, []string{"--format", "json", "--output", filepath.Join(t.TempDir(), "report")})
	on := func(flags ...string) string {
		command := strings.Join(slices.Concat(args, []string{"--cache-dir", t.TempDir()}, flags, []string{repository + ":v6"}), " ")
		output, err := exec.Command("script", "--quiet", "--return", "--command", command, "/dev/null").Output()
		require.NoError(t, err, "%s", output)
		return string(output)
	}
	assert.Regexp(t, `\d+ / \d+ files .* of 35`, on())
	assert.NotRegexp(t, `\d+ / \d+ files`, on("--no-progress"))
	assert.Empty(t, on("--quiet"))
	r := run(t, "trivy-nydus", slices.Concat(args[1:], []string{"--cache-dir", t.TempDir(), repository + ":v6"})...)
	assert.NotRegexp(t, `\d+ / \d+ files`, r.stderr)
}
