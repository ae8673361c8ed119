package nydusimage

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
)

// TestPlainHTTP has registries at which nothing speaks TLS: they are not spoken
// to in the clear unless that is allowed, whatever their name or address. (For
// private addresses go-containerregistry by itself would.)
func TestPlainHTTP(t *testing.T) {
	registry := testregistry.Start(t)
	testimage.Push(t, registry.Host()+"/image:tag", fixture(t))
	proxy := testregistry.CountingProxy(t, registry.Host())
	for _, host := range []string{
		"registry.test", "registry.test:5000", "registry.local", "registry.local:5000", "registry:5000",
		"10.1.2.3", "10.1.2.3:5000", "172.16.0.9:5000", "192.168.1.1:5000", "[fd00::1]:5000",
	} {
		t.Run(host, func(t *testing.T) {
			addresses := map[string]string{host: proxy.Host()}
			if parsed := (&url.URL{Host: host}); parsed.Port() == "" {
				addresses = map[string]string{host + ":80": proxy.Host(), host + ":443": proxy.Host()}
			}
			recorded := record(dialTo(addresses))
			proxy.Reset()
			mustFail(t, host+"/image:tag", Options{Transport: recorded}, nil)
			assert.NotZero(t, recorded.count(host, "/v2/"), "TLS was tried")
			for _, s := range recorded.requests {
				assert.Equal(t, "https", s.scheme)
			}
			assert.Empty(t, proxy.Log(), "requests in the clear")

			recorded = record(dialTo(addresses))
			mustOpen(t, host+"/image:tag", Options{Transport: recorded, PlainHTTP: true})
			for _, s := range recorded.requests {
				assert.Equal(t, "http", s.scheme, "with plain HTTP nothing else is tried")
			}
		})
	}
}

// Loopback is spoken to in the clear without being asked to.
func TestPlainHTTPOfThisMachine(t *testing.T) {
	registry := testregistry.Start(t)
	_, port, err := net.SplitHostPort(registry.Host())
	require.NoError(t, err)
	testimage.Push(t, registry.Host()+"/image:tag", fixture(t))
	transport := dialTo(map[string]string{
		registry.Host(): registry.Host(), "localhost:" + port: registry.Host(), "x.localhost:" + port: registry.Host(), "[::1]:" + port: registry.Host(),
	})
	for _, host := range []string{"127.0.0.1", "localhost", "x.localhost", "[::1]"} {
		mustOpen(t, host+":"+port+"/image:tag", Options{Transport: transport})
	}
}

// A blob of a registry with TLS that redirects into the clear is not read.
func TestRedirectIntoTheClear(t *testing.T) {
	registry := testregistry.Start(t)
	testimage.Push(t, registry.Host()+"/image:tag", fixture(t))
	proxy := testregistry.CountingProxy(t, registry.Host())
	front := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if testregistryRequest(r).IsBlob() {
			http.Redirect(w, r, "http://storage.test"+r.URL.Path, http.StatusTemporaryRedirect)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	defer front.Close()
	transport := dialTo(map[string]string{tokenHost + ":443": front.Listener.Addr().String(), "storage.test:80": proxy.Host()})
	transport.TLSClientConfig = front.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	err := mustFail(t, tokenHost+"/image:tag", Options{Transport: transport}, nil)
	assert.ErrorContains(t, err, "storage.test is not spoken to without TLS unless --plain-http allows it")
	for _, r := range proxy.Log() {
		assert.False(t, r.IsBlob(), "%s in the clear", r.Path)
	}
}

func testregistryRequest(r *http.Request) testregistry.Request {
	return testregistry.Request{Path: r.URL.Path}
}

// A forwardProxy is an HTTP proxy for made-up names, as HTTP_PROXY and
// HTTPS_PROXY name one.
type forwardProxy struct {
	*httptest.Server
	addresses map[string]string

	mu   sync.Mutex
	seen map[string]int // by method and host
}

func startForwardProxy(t *testing.T, addresses map[string]string) *forwardProxy {
	t.Helper()
	p := &forwardProxy{addresses: addresses, seen: make(map[string]int)}
	p.Server = httptest.NewServer(p)
	t.Cleanup(func() { p.CloseClientConnections(); p.Close() })
	return p
}

func (p *forwardProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.seen[r.Method+" "+r.URL.Host]++
	p.mu.Unlock()
	to, ok := p.addresses[r.URL.Host]
	switch {
	case !ok:
		w.WriteHeader(http.StatusBadGateway)
	case r.Method == http.MethodConnect:
		tunnel(w, to)
	default:
		(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.Out.URL.Host = to }}).ServeHTTP(w, r)
	}
}

// tunnel joins a client to what it wants to be connected with.
func tunnel(w http.ResponseWriter, to string) {
	backend, err := net.Dial("tcp", to)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	w.WriteHeader(http.StatusOK)
	client, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		backend.Close()
		return
	}
	// The server may have read some of what the client sent first.
	go func() { defer backend.Close(); copyAll(backend, buffered) }()
	defer client.Close()
	copyAll(client, backend)
}

// through is a transport that reaches nothing but by the proxy.
func (p *forwardProxy) through() *http.Transport {
	address := p.Listener.Addr().String()
	transport := dialTo(map[string]string{address: address})
	transport.Proxy = func(*http.Request) (*url.URL, error) { return url.Parse(p.URL) }
	return transport
}

// Manifests, tokens and ranges all go through the proxy that the environment
// names: in the clear as requests to it, with TLS as tunnels through it.
func TestProxy(t *testing.T) {
	k := startTokens(t, 1000)
	proxy := startForwardProxy(t, map[string]string{
		"registry.test": k.host, tokenHost + ":443": k.service.Listener.Addr().String(),
	})
	transport := proxy.through()
	transport.TLSClientConfig = k.transport.TLSClientConfig.Clone()
	recorded := record(transport)
	mustOpen(t, "registry.test/image:tag", Options{Transport: recorded, PlainHTTP: true, Credentials: k.credentials})
	assert.NotZero(t, recorded.count("registry.test", "/manifests/"))
	assert.NotZero(t, recorded.count("registry.test", "/blobs/"))
	assert.Equal(t, recorded.count("registry.test", "/v2/"), proxy.seen["GET registry.test"], "requests that the proxy saw")
	assert.Equal(t, 1, proxy.seen["CONNECT "+tokenHost+":443"], "tunnels to the token service")
	assert.Equal(t, 1, recorded.count(tokenHost, "/token"))
	assert.Len(t, proxy.seen, 2)
}

func TestProxyToTLSRegistry(t *testing.T) {
	registry := testregistry.Start(t)
	testimage.Push(t, registry.Host()+"/image:tag", fixture(t))
	backend := must(url.Parse(registry.URL()))
	front := httptest.NewTLSServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(backend) }})
	defer front.Close()
	proxy := startForwardProxy(t, map[string]string{tokenHost + ":443": front.Listener.Addr().String()})
	transport := proxy.through()
	transport.TLSClientConfig = front.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	mustOpen(t, tokenHost+"/image:tag", Options{Transport: transport})
	assert.Len(t, proxy.seen, 1)
	assert.NotZero(t, proxy.seen["CONNECT "+tokenHost+":443"])
	front.CloseClientConnections()
}
