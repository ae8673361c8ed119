package nydusimage

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/blob"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
)

// TestMain keeps the user's own credentials out of the tests, and their waits:
// package blob tests its own.
func TestMain(m *testing.M) {
	home, err := os.MkdirTemp("", "nydusimage-test-")
	if err != nil {
		panic(err)
	}
	if os.Getenv("TRIVY_NYDUS_TOOLS") == "" {
		if own, err := os.UserHomeDir(); err == nil {
			os.Setenv("TRIVY_NYDUS_TOOLS", filepath.Join(own, ".cache", "trivy-nydus-tools"))
		}
	}
	os.Setenv("HOME", home)
	for _, variable := range []string{"DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"} {
		os.Unsetenv(variable)
	}
	retry = func(inner http.RoundTripper) http.RoundTripper { return inner }
	code := m.Run()
	os.RemoveAll(home)
	os.Exit(code)
}

// set changes a variable until the test ends.
func set[T any](t *testing.T, variable *T, value T) {
	t.Helper()
	old := *variable
	*variable = value
	t.Cleanup(func() { *variable = old })
}

const motd = "the upper layer's words\n"

// fixture is a converted image of two layers; etc/motd is motd.
func fixture(t *testing.T) *testimage.Nydus {
	t.Helper()
	return testimage.Convert(t, fixtureOCI(t, "amd64", ""), testimage.ConvertOptions{})
}

// write puts a file into a folder that need not be there.
func write(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, []byte(content), mode))
}

// mustOpen opens the fixture, reads a file of it and the manifest's data blobs,
// which are verified by their digests, and closes it.
func mustOpen(t *testing.T, target string, o Options) *Image {
	t.Helper()
	image, err := Open(t.Context(), target, o)
	require.NoError(t, err, "open %s", target)
	defer func() { assert.NoError(t, image.Close()) }()
	sources := make(map[string]blob.Source)
	for _, layer := range image.Layers {
		sources[layer.BlobID()] = layer.Source
		data := make([]byte, layer.Source.Size())
		require.NoError(t, layer.Source.ReadRange(t.Context(), data, 0))
		assert.NoError(t, checkDigest(data, layer.Digest))
	}
	bootstrap, err := image.Bootstrap(t.Context())
	require.NoError(t, err)
	tree := blob.NewReader(sources).Tree(t.Context(), bootstrap.Tree.Blobs(), "")
	content, err := fs.ReadFile(bootstrap.Tree.FS(tree), "etc/motd")
	require.NoError(t, err)
	assert.Equal(t, motd, string(content))
	return image
}

// mustFail opens what must not open, with its bootstrap, for the given reason.
func mustFail(t *testing.T, target string, o Options, reason error) error {
	t.Helper()
	image, err := Open(t.Context(), target, o)
	if err == nil {
		_, err = image.Bootstrap(t.Context())
		assert.NoError(t, image.Close())
	}
	require.Error(t, err, "open %s", target)
	if reason != nil {
		require.ErrorIs(t, err, reason)
	}
	return err
}

// A recorder keeps account of the requests that pass.
type recorder struct {
	inner http.RoundTripper

	mu       sync.Mutex
	requests []sent
}

type sent struct{ method, scheme, host, path, authorization string }

func record(inner http.RoundTripper) *recorder { return &recorder{inner: inner} }

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	r.mu.Lock()
	r.requests = append(r.requests, sent{req.Method, req.URL.Scheme, req.URL.Host, req.URL.Path, req.Header.Get("Authorization")})
	r.mu.Unlock()
	return r.inner.RoundTrip(req)
}

// authorizations lists what credentials each host got, by the first word.
func (r *recorder) authorizations() map[string][]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make(map[string][]string)
	for _, s := range r.requests {
		scheme, _, _ := strings.Cut(s.authorization, " ")
		if all[s.host] == nil {
			all[s.host] = []string{}
		}
		if scheme != "" {
			all[s.host] = append(all[s.host], scheme)
		}
	}
	return all
}

// count is the number of requests to a host whose path contains part.
func (r *recorder) count(host, part string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, s := range r.requests {
		if s.host == host && strings.Contains(s.path, part) {
			n++
		}
	}
	return n
}

// dialTo is a transport for which the given "host:port" lie at other addresses,
// and no others are there.
func dialTo(addresses map[string]string) *http.Transport {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		to, ok := addresses[address]
		if !ok {
			return nil, &net.DNSError{Err: "no such host", Name: address, IsNotFound: true}
		}
		return (&net.Dialer{}).DialContext(ctx, network, to)
	}
	return transport
}

// hasError says whether the chain holds an error of type E.
func hasError[E error](err error) bool {
	var e E
	return errors.As(err, &e)
}
