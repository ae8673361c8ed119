package nydusimage

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/blob"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
)

// A realm that names a host for which there are other credentials gets those of
// the registry alone (CVE-2024-35192 was that of Trivy).
func TestRealmOfKnownHost(t *testing.T) {
	k := startTokens(t, 1000)
	stored := keychain{k.host: basic("user", "right"), tokenHost: basic("victim", "of-the-known-host"), tokenHost + ":443": basic("victim", "of-the-known-host")}
	mustOpen(t, k.target, Options{Transport: k.transport, Keychain: stored})
	right := "Basic " + base64.StdEncoding.EncodeToString([]byte("user:right"))
	require.NotEmpty(t, k.seen)
	for _, sent := range k.seen {
		assert.Equal(t, right, sent)
	}
	// One that has none gets none.
	k.seen = nil
	delete(stored, k.host)
	mustFail(t, k.target, Options{Transport: k.transport, Keychain: stored}, ErrUnauthorized)
	for _, sent := range k.seen {
		assert.Empty(t, sent)
	}
}

// A registry outside does not lead into this machine's network or to a metadata
// service: not by a realm, nor by redirects of manifests and blobs.
func TestLedInside(t *testing.T) {
	registry := testregistry.Start(t)
	testimage.Push(t, registry.Host()+"/image:tag", fixture(t))
	for _, to := range []string{"localhost:9", "LOCALHOST.:9", "x.localhost:9", "10.0.0.1", "100.100.100.200", "168.63.129.16", "[::1]:9", "169.254.169.254", "[fe80::1]"} {
		for _, what := range []string{"realm", "/manifests/", "/blobs/"} {
			t.Run(what+" "+to, func(t *testing.T) {
				proxy := testregistry.CountingProxy(t, registry.Host())
				proxy.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
					switch {
					case what == "realm":
						w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="https://%s/token"`, to))
						w.WriteHeader(http.StatusUnauthorized)
					case strings.Contains(r.URL.Path, what):
						http.Redirect(w, r, "https://"+to+"/elsewhere", http.StatusTemporaryRedirect)
					default:
						return false
					}
					return true
				})
				recorded := record(dialTo(map[string]string{"registry.test:80": proxy.Host()}))
				mustFail(t, "registry.test/image:tag", Options{Transport: recorded, PlainHTTP: true, Credentials: []authn.Authenticator{basic("user", "right")}}, nil)
				assert.Equal(t, []string{"registry.test"}, keys(recorded.authorizations()), "hosts that were asked")
			})
		}
	}
}

// Redirects that lead nowhere come to an end.
func TestEndlessRedirects(t *testing.T) {
	registry := testregistry.Start(t)
	testimage.Push(t, registry.Host()+"/image:tag", fixture(t))
	for _, what := range []string{"/v2/", "/manifests/", "/blobs/"} {
		t.Run(what, func(t *testing.T) {
			proxy := testregistry.CountingProxy(t, registry.Host())
			proxy.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.Contains(r.URL.Path, what) {
					return false
				}
				http.Redirect(w, r, r.URL.Path, http.StatusTemporaryRedirect)
				return true
			})
			err := mustFail(t, proxy.Host()+"/image:tag", Options{}, nil)
			assert.ErrorContains(t, err, "redirects")
			assert.Less(t, proxy.Requests(), 20)
		})
	}
}

// A token service that redirects takes no credentials along.
func TestTokenServiceRedirects(t *testing.T) {
	const third = "third.test"
	for _, c := range []struct {
		name string
		auth authn.Authenticator
	}{
		{"a password", basic("user", "right")},
		{"a refresh token", authn.FromConfig(authn.AuthConfig{IdentityToken: "the-refresh-token"})},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := startTokens(t, 1000)
			var mu sync.Mutex
			var told []string
			elsewhere := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				mu.Lock()
				defer mu.Unlock()
				told = append(told, r.Header.Get("Authorization")+r.Header.Get("Referer")+string(body))
				w.WriteHeader(http.StatusUnauthorized)
			}))
			defer elsewhere.Close()
			k.service.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "https://"+third+"/token?signature=1", http.StatusTemporaryRedirect)
			})
			transport := dialTo(map[string]string{k.host: k.host, tokenHost + ":443": k.service.Listener.Addr().String(), third + ":443": elsewhere.Listener.Addr().String()})
			transport.TLSClientConfig = k.transport.TLSClientConfig.Clone()
			transport.TLSClientConfig.InsecureSkipVerify = true
			mustFail(t, k.target, Options{Transport: transport, Credentials: []authn.Authenticator{c.auth}, Exclusive: true}, nil)
			assert.Empty(t, strings.Join(told, ""))
		})
	}
}

// A storage that redirects back to the registry learns nothing, and neither gets
// cookies or addresses of the other.
func TestRedirectsBack(t *testing.T) {
	registry := testregistry.Start(t, testregistry.WithHtpasswd("user", "right"))
	credentials := basic("user", "right")
	testimage.Push(t, registry.Host()+"/image:tag", fixture(t), remote.WithAuth(credentials))
	proxy := testregistry.CountingProxy(t, registry.Host())
	var mu sync.Mutex
	var leaked []string
	look := func(r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		for _, name := range []string{"Cookie", "Referer"} {
			if value := r.Header.Get(name); value != "" {
				leaked = append(leaked, name+": "+value)
			}
		}
	}
	storage := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		look(r)
		if r.Header.Get("Authorization") != "" {
			leaked = append(leaked, "Authorization")
		}
		http.SetCookie(w, &http.Cookie{Name: "of", Value: "storage"})
		http.Redirect(w, r, "http://"+proxy.Host()+r.URL.Path+"?back=1", http.StatusTemporaryRedirect)
	}))
	defer storage.Close()
	proxy.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		look(r)
		user, _, _ := r.BasicAuth()
		if user == "" || !strings.Contains(r.URL.Path, "/image/") || r.URL.Query().Get("back") != "" {
			return false
		}
		http.SetCookie(w, &http.Cookie{Name: "of", Value: "registry"})
		http.Redirect(w, r, "https://"+tokenHost+r.URL.Path+"?signature=1", http.StatusTemporaryRedirect)
		return true
	})
	openThroughStorage(t, proxy, storage, credentials)
	assert.Empty(t, leaked)
}

// References that look like a known host get what is kept for their own host,
// which is nothing.
func TestLookAlikes(t *testing.T) {
	var mu sync.Mutex
	sent := make(map[string][]string)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		sent[r.Host] = append(sent[r.Host], r.Header.Get("Authorization"))
		w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer server.Close()
	dir := t.TempDir()
	var auths []string
	for _, known := range []string{"https://index.docker.io/v1/", "docker.io", "ghcr.io", "registry.test", "registry.test:5000", "localhost:5000"} {
		auths = append(auths, fmt.Sprintf(`%q: {"auth": %q}`, known, base64.StdEncoding.EncodeToString([]byte("user:secret"))))
	}
	write(t, filepath.Join(dir, "config.json"), `{"auths": {`+strings.Join(auths, ",")+`}}`, 0o600)
	t.Setenv("DOCKER_CONFIG", dir)
	addresses := func(host string) map[string]string {
		to := server.Listener.Addr().String()
		return map[string]string{host: to, host + ":80": to, strings.ToLower(host): to, strings.ToLower(host) + ":80": to}
	}
	ask := func(host string) []string {
		clear(sent)
		mustFail(t, host+"/image:tag", Options{Transport: dialTo(addresses(host)), PlainHTTP: true}, nil)
		var got []string
		for _, values := range sent {
			got = append(got, values...)
		}
		return got
	}
	for _, known := range []string{"registry.test", "registry.test:5000", "ghcr.io"} {
		assert.Contains(t, strings.Join(ask(known), " "), "Basic ", known)
	}
	for _, host := range []string{
		"docker.io.evil:5000", "index.docker.io.evil", "evil-docker.io:5000", "ghcr.io.evil.test", "ghcr.io:5000", "xghcr.io",
		"registry.test:443", "registry.test.:5000", "registry.test:50000", "GHCR.io", "Registry.Test", "localhost.evil:5000",
	} {
		assert.Empty(t, strings.Join(ask(host), ""), host)
	}
	// These are no references.
	for _, target := range []string{
		"user@ghcr.io/image:tag", "user:password@ghcr.io/image:tag", "ghсr.io/image:tag" /* a Cyrillic letter */, "https://ghcr.io/image:tag",
		"ghcr.io\\@evil.test/image:tag", "ghcr.io#evil.test/image:tag", "ghcr.io?evil.test/image:tag",
	} {
		clear(sent)
		mustFail(t, target, Options{Transport: dialTo(nil)}, nil)
		assert.Empty(t, sent)
	}
}

// What registries and token services say is shown without what they were told.
func TestErrorsHideSecrets(t *testing.T) {
	set(t, &retry, blob.Retry)
	encoded := base64.StdEncoding.EncodeToString([]byte("user:right-horse"))
	for _, c := range []struct {
		name string
		do   func(k *tokens, w http.ResponseWriter, r *http.Request)
		says string
	}{
		{"an answer without a token", func(_ *tokens, w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, `{"jwt": "hidden-token", "refresh_token": "hidden-token"}`)
		}, "no token in bearer response"},
		{"an echo", func(_ *tokens, w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprintf(w, "you sent %s, that is user:right-horse", r.Header.Get("Authorization"))
		}, "you sent Basic ***"},
		{"a redirect to a signed address", func(_ *tokens, w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://nobody.test/token?X-Amz-Signature=hidden-token", http.StatusTemporaryRedirect)
		}, "nobody.test/token?(query)"},
		{"a redirect with a login", func(_ *tokens, w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://someone:hidden-token@nobody.test/token", http.StatusTemporaryRedirect)
		}, "nobody.test"},
		{"a page without end", func(_ *tokens, w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			io.WriteString(w, strings.Repeat("<p>no</p>", 1<<20))
		}, "403"},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := startTokens(t, 1000)
			k.service.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { c.do(k, w, r) })
			err := mustFail(t, k.target, Options{Transport: k.transport, Credentials: []authn.Authenticator{basic("user", "right-horse")}, Exclusive: true}, nil)
			for _, secret := range []string{"hidden-token", "right-horse", encoded} {
				assert.NotContains(t, err.Error(), secret)
			}
			assert.ErrorContains(t, err, c.says)
		})
	}
	t.Run("a manifest at a signed address", func(t *testing.T) {
		registry := testregistry.Start(t)
		testimage.Push(t, registry.Host()+"/image:tag", fixture(t))
		proxy := testregistry.CountingProxy(t, registry.Host())
		proxy.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, "/manifests/") {
				return false
			}
			http.Redirect(w, r, "http://127.0.0.1:1/x?X-Amz-Signature=hidden-token", http.StatusTemporaryRedirect)
			return true
		})
		transport := dialTo(map[string]string{proxy.Host(): proxy.Host()})
		err := mustFail(t, proxy.Host()+"/image:tag", Options{Transport: transport}, nil)
		assert.NotContains(t, err.Error(), "hidden-token")
	})
}

// The data of an OCI layer that is referred to is asked for in the image's own
// repository, with its login.
func TestDataOfOwnRepository(t *testing.T) {
	registry := testregistry.Start(t, testregistry.WithHtpasswd("user", "right"))
	credentials := basic("user", "right")
	oci := fixtureOCI(t, "amd64", "")
	nydus := testimage.Convert(t, oci, testimage.ConvertOptions{OCIRef: true})
	for tag, image := range map[string]any{"oci": oci, "tag": nydus} {
		testimage.Push(t, registry.Host()+"/image:"+tag, image, remote.WithAuth(credentials))
	}
	backend := must(url.Parse(registry.URL()))
	front := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(backend) }})
	defer front.Close()
	recorded := record(dialTo(map[string]string{"registry.test:80": front.Listener.Addr().String()}))
	image, err := Open(t.Context(), "registry.test/image:tag", Options{Transport: recorded, PlainHTTP: true, Credentials: []authn.Authenticator{credentials}})
	require.NoError(t, err)
	defer image.Close()
	layer := &image.Layers[0]
	require.True(t, layer.Refers())
	size := must(must(oci.Layers())[0].Size())
	data, err := image.Data(layer, size)
	require.NoError(t, err)
	require.NoError(t, data.ReadRange(t.Context(), make([]byte, 10), 0))
	assert.NotZero(t, recorded.count("registry.test", "/v2/image/blobs/"+layer.Ref.String()))
	assert.Equal(t, []string{"registry.test"}, keys(recorded.authorizations()))
}

// The blobs of a chunk dictionary are asked for in the image's own repository, with
// the login for its registry alone: though there be another for the registry that the
// dictionary came from, which a manifest may name. (What URLs do: TestCraftedBackend.)
func TestDictionaryOfOwnRepository(t *testing.T) {
	const own, foreign = "registry.test", "dictionary.test"
	dict := fixture(t)
	oci := testimage.BuildOCI(t, testimage.Spec{Name: "of-a-dictionary", Layers: []testimage.Layer{
		{testimage.Dir("etc"), testimage.Text("etc/motd", motd), testimage.Text("etc/own", "not in the dictionary\n")},
	}})
	n := testimage.ConvertWithDict(t, oci, dict)
	image := testimage.Wrap(t, n, testimage.Wrapping{FSVersion: true, Metas: true, Edit: func(m *v1.Manifest) {
		m.Annotations[AnnotationSourceReference] = foreign + "/dictionary:tag"
	}})
	registry := testregistry.Start(t, testregistry.WithHtpasswd("user", "right"))
	login := basic("user", "right")
	testimage.Push(t, registry.Host()+"/image:tag", image, remote.WithAuth(login))
	testimage.Push(t, registry.Host()+"/dictionary:tag", dict, remote.WithAuth(login))
	proxy := testregistry.CountingProxy(t, registry.Host())
	recorded := record(dialTo(map[string]string{own + ":80": proxy.Host(), foreign + ":80": proxy.Host()}))
	opened := mustOpen(t, own+"/image:tag", Options{Transport: recorded, PlainHTTP: true, Keychain: keychain{own: login, foreign: basic("victim", "of-the-dictionary")}})
	taken := 0
	for _, b := range dict.Blobs {
		if slices.ContainsFunc(opened.Layers, func(l Layer) bool { return l.Digest == b.Digest }) {
			assert.NotZero(t, recorded.count(own, "/v2/image/blobs/"+b.Digest.String()))
			taken++
		}
	}
	assert.NotZero(t, taken, "blobs of the dictionary in the image")
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte("user:right"))
	for _, s := range recorded.requests {
		assert.Equal(t, own, s.host)
		assert.True(t, s.path == "/v2/" || strings.HasPrefix(s.path, "/v2/image/"), s.path)
		if s.path != "/v2/" {
			assert.Equal(t, want, s.authorization)
		}
	}
}
