package nydusimage

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
)

// tokenHost is the name in httptest's certificate.
const tokenHost = "example.com"

// tokens is a registry that asks for bearer tokens of a service on another
// host, over https. Each token is good for a number of requests.
type tokens struct {
	host, target string
	transport    *http.Transport
	credentials  []authn.Authenticator
	service      *httptest.Server

	mu     sync.Mutex
	uses   int
	issued int
	left   int
	seen   []string // Authorization of the token requests
}

func startTokens(t *testing.T, uses int) *tokens {
	t.Helper()
	registry := testregistry.Start(t)
	proxy := testregistry.CountingProxy(t, registry.Host())
	k := &tokens{
		host: proxy.Host(), target: proxy.Host() + "/image:tag", uses: uses,
		credentials: []authn.Authenticator{basic("user", "right")},
	}
	testimage.Push(t, registry.Host()+"/image:tag", fixture(t))
	k.service = httptest.NewTLSServer(http.HandlerFunc(k.issue))
	t.Cleanup(k.service.Close)
	k.transport = dialTo(map[string]string{
		proxy.Host():           proxy.Host(),
		"registry.test:80":     proxy.Host(),
		tokenHost + ":443":     k.service.Listener.Addr().String(),
		"other-tokens.test:80": k.service.Listener.Addr().String(),
	})
	k.transport.TLSClientConfig = k.service.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	k.challenge(proxy, "https://"+tokenHost+"/token")
	return k
}

// challenge makes the registry ask for tokens of the given service.
func (k *tokens) challenge(proxy *testregistry.Proxy, realm string) {
	proxy.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		k.mu.Lock()
		good := r.Header.Get("Authorization") == fmt.Sprintf("Bearer token-%d", k.issued) && k.left > 0
		if good {
			k.left--
		}
		k.mu.Unlock()
		if good {
			return false
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm=%q,service="test",scope="repository:image:pull"`, realm))
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
}

func (k *tokens) issue(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.seen = append(k.seen, r.Header.Get("Authorization"))
	if user, password, _ := r.BasicAuth(); user != "user" || password != "right" || r.URL.Query().Get("scope") != "repository:image:pull" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	k.issued++
	k.left = k.uses
	fmt.Fprintf(w, `{"token": "token-%d", "expires_in": 60}`, k.issued)
}

func TestTokensExpire(t *testing.T) {
	k := startTokens(t, 3)
	recorded := record(k.transport)
	image, err := Open(t.Context(), k.target, Options{Transport: recorded, Credentials: k.credentials})
	require.NoError(t, err)
	defer image.Close()
	source := image.Layers[0].Source
	whole := make([]byte, source.Size())
	require.NoError(t, source.ReadRange(t.Context(), whole, 0))
	for i := range 20 {
		p := make([]byte, 10)
		require.NoError(t, source.ReadRange(t.Context(), p, int64(i)), "range %d", i)
		assert.Equal(t, whole[i:i+10], p)
	}
	// One for the manifest, the config, the bootstrap layer, the blob, and 20 ranges.
	assert.Equal(t, 8, k.issued, "tokens")
	for host, sent := range recorded.authorizations() {
		for _, scheme := range sent {
			assert.Equal(t, map[string]string{k.host: "Bearer", tokenHost: "Basic"}[host], scheme, "sent to %s", host)
		}
	}
}

func TestTokensAreRefused(t *testing.T) {
	k := startTokens(t, 3)
	mustFail(t, k.target, Options{Transport: k.transport, Credentials: []authn.Authenticator{basic("user", "wrong")}}, ErrUnauthorized)
	mustFail(t, k.target, Options{Transport: k.transport}, ErrUnauthorized)
	mustOpen(t, k.target, Options{Transport: k.transport, Credentials: []authn.Authenticator{basic("user", "wrong"), k.credentials[0]}})
}

// A token that the user gives is used as it is, and is given to the registry
// alone.
func TestTokenOfTheUser(t *testing.T) {
	k := startTokens(t, 1000)
	k.issued, k.left = 7, 1000
	recorded := record(k.transport)
	mustOpen(t, k.target, Options{
		Transport: recorded, Credentials: []authn.Authenticator{&authn.Bearer{Token: "token-7"}}, Exclusive: true,
	})
	assert.Empty(t, k.seen, "token requests")
	assert.Equal(t, []string{k.host}, keys(recorded.authorizations()))
}

func keys(m map[string][]string) []string {
	var all []string
	for key := range m {
		all = append(all, key)
	}
	return all
}

// Credentials are not sent to a token service without TLS, whatever the
// registry says: neither a password nor a refresh token in a form.
func TestTokenServiceWithoutTLS(t *testing.T) {
	const other = "other-tokens.test"
	for _, c := range []struct {
		name        string
		registry    string
		plainHTTP   bool
		credentials authn.Authenticator
	}{
		{"a registry on this machine", "", false, basic("user", "right")},
		{"with plain HTTP allowed", "registry.test", true, basic("user", "right")},
		{"a refresh token", "registry.test", true, authn.FromConfig(authn.AuthConfig{IdentityToken: "refresh"})},
	} {
		t.Run(c.name, func(t *testing.T) {
			registry := testregistry.Start(t)
			proxy := testregistry.CountingProxy(t, registry.Host())
			var reached []string
			service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				reached = append(reached, r.Method+" "+r.Header.Get("Authorization"))
			}))
			defer service.Close()
			(&tokens{}).challenge(proxy, "http://"+other+"/token")
			if c.registry == "" {
				c.registry = proxy.Host()
			}
			transport := dialTo(map[string]string{
				proxy.Host(): proxy.Host(), "registry.test:80": proxy.Host(), other + ":80": service.Listener.Addr().String(),
			})
			_, err := Open(t.Context(), c.registry+"/image:tag", Options{
				Transport: transport, PlainHTTP: c.plainHTTP, Credentials: []authn.Authenticator{c.credentials}, Exclusive: true,
			})
			assert.True(t, hasError[*refusal](err), "error %v", err)
			assert.Empty(t, reached, "requests to the token service")
		})
	}
}

// Redirects of manifests and blobs lead to another host without credentials.
func TestRedirectsWithoutCredentials(t *testing.T) {
	registry := testregistry.Start(t, testregistry.WithHtpasswd("user", "right"))
	credentials := basic("user", "right")
	testimage.Push(t, registry.Host()+"/image:tag", fixture(t), remote.WithAuth(credentials))
	backend := must(url.Parse(registry.URL()))
	storage := httptest.NewTLSServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(backend)
		r.Out.SetBasicAuth("user", "right") // the storage has access of its own
	}})
	defer storage.Close()
	proxy := testregistry.CountingProxy(t, registry.Host())
	proxy.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		user, _, _ := r.BasicAuth()
		if user == "" || !strings.Contains(r.URL.Path, "/blobs/") && !strings.Contains(r.URL.Path, "/manifests/") {
			return false
		}
		http.Redirect(w, r, "https://"+tokenHost+r.URL.Path+"?signature=1", http.StatusTemporaryRedirect)
		return true
	})
	recorded := openThroughStorage(t, proxy, storage, credentials)
	assert.Empty(t, recorded.authorizations()[tokenHost], "credentials at the storage")
	assert.NotEmpty(t, recorded.authorizations()[proxy.Host()], "credentials at the registry")
}

// openThroughStorage opens the image of a registry that redirects to a storage, on
// [tokenHost], which must be asked for manifests and blobs, and returns what was sent.
func openThroughStorage(t *testing.T, registry *testregistry.Proxy, storage *httptest.Server, credentials authn.Authenticator) *recorder {
	t.Helper()
	transport := dialTo(map[string]string{registry.Host(): registry.Host(), tokenHost + ":443": storage.Listener.Addr().String()})
	transport.TLSClientConfig = storage.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	recorded := record(transport)
	mustOpen(t, registry.Host()+"/image:tag", Options{Transport: recorded, Credentials: []authn.Authenticator{credentials}})
	assert.NotZero(t, recorded.count(tokenHost, "/manifests/"))
	assert.NotZero(t, recorded.count(tokenHost, "/blobs/"))
	return recorded
}
