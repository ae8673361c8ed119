package nydusimage

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
)

func fixtureOCI(t *testing.T, architecture, variant string) v1.Image {
	t.Helper()
	return testimage.BuildOCI(t, testimage.Spec{
		Name:     "nydusimage",
		Platform: v1.Platform{OS: "linux", Architecture: architecture, Variant: variant},
		Layers: []testimage.Layer{
			{testimage.Dir("etc"), testimage.Text("etc/motd", "the lower layer's words\n"), testimage.Text("etc/hostname", "nydus\n")},
			{testimage.Text("etc/motd", motd)},
		},
	})
}

func TestOpenFromRegistry(t *testing.T) {
	host := testregistry.Start(t).Host()
	digest := testimage.Push(t, host+"/some/image:tag", fixture(t))
	testimage.Push(t, host+"/some/image:oci", fixtureOCI(t, "amd64", ""))
	for _, target := range []string{"/some/image:tag", "/some/image@" + digest.String(), "/some/image:tag@" + digest.String()} {
		var traffic Traffic
		image := mustOpen(t, host+target, Options{Traffic: &traffic})
		assert.Equal(t, digest, image.Digest)
		assert.Equal(t, digest, image.Descriptor.Digest)
		assert.Len(t, image.Layers, 2)
		assert.Len(t, image.Config.History, 2, "the converter's entry is gone")
		assert.Len(t, image.Config.RootFS.DiffIDs, 2)
		assert.Equal(t, "COPY layer2 / # buildkit", image.Layers[1].CreatedBy)
		assert.Greater(t, traffic.Requests(), int64(5))
		assert.Greater(t, traffic.Bytes(), image.Layers[0].Size)
	}
	for _, missing := range []string{"/some/image:missing", "/another/image:tag", "/some/image@sha256:" + strings.Repeat("0", 64)} {
		mustFail(t, host+missing, Options{}, ErrNotFound)
	}
	err := mustFail(t, host+"/some/image:oci", Options{}, nil)
	assert.True(t, hasError[*NotNydusError](err), "error %v", err)
	mustFail(t, host+"/Some/image:tag", Options{}, nil)

	canceled, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("interrupted")
	cancel(cause)
	_, err = Open(canceled, host+"/some/image:tag", Options{})
	assert.ErrorIs(t, err, cause)
}

func basic(user, password string) authn.Authenticator {
	return &authn.Basic{Username: user, Password: password}
}

func authFile(host, user, password string) string {
	return fmt.Sprintf(`{"auths": {%q: {"auth": %q}}}`, host, base64.StdEncoding.EncodeToString([]byte(user+":"+password)))
}

func TestCredentials(t *testing.T) {
	host := testregistry.Start(t, testregistry.WithHtpasswd("user", "right")).Host()
	target := host + "/image:tag"
	testimage.Push(t, target, fixture(t), remote.WithAuth(basic("user", "right")))
	right, wrong := basic("user", "right"), basic("user", "wrong")
	dockerConfig := func(content string) func(*testing.T) {
		return func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "config.json"), content, 0o600)
			t.Setenv("DOCKER_CONFIG", dir)
		}
	}
	helper := func(name, says string) func(*testing.T) {
		return func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "docker-credential-"+name), "#!/bin/sh\nread -r host\n"+says+"\n", 0o755)
			t.Setenv("PATH", dir+":/usr/bin:/bin")
			dockerConfig(fmt.Sprintf(`{"credHelpers": {%q: %q}}`, host, name))(t)
		}
	}
	for _, c := range []struct {
		name    string
		set     func(*testing.T) // nil for nothing kept
		options Options
		err     error
	}{
		{"none", nil, Options{}, ErrUnauthorized},
		{"right", nil, Options{Credentials: []authn.Authenticator{right}}, nil},
		{"wrong", nil, Options{Credentials: []authn.Authenticator{wrong}}, ErrUnauthorized},
		{"wrong, then right", nil, Options{Credentials: []authn.Authenticator{wrong, right}}, nil},
		{"docker", dockerConfig(authFile(host, "user", "right")), Options{}, nil},
		{"docker, wrong", dockerConfig(authFile(host, "user", "wrong")), Options{}, ErrUnauthorized},
		{"docker, of another host", dockerConfig(authFile("registry.test", "user", "right")), Options{}, ErrUnauthorized},
		{"wrong, then docker's", dockerConfig(authFile(host, "user", "right")), Options{Credentials: []authn.Authenticator{wrong}}, nil},
		{"wrong and nothing else", dockerConfig(authFile(host, "user", "right")), Options{Credentials: []authn.Authenticator{wrong}, Exclusive: true}, ErrUnauthorized},
		{"podman's REGISTRY_AUTH_FILE", func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "auth.json")
			write(t, file, authFile(host, "user", "right"), 0o600)
			t.Setenv("REGISTRY_AUTH_FILE", file)
		}, Options{}, nil},
		{"podman's XDG_RUNTIME_DIR", func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "containers", "auth.json"), authFile(host, "user", "right"), 0o600)
			t.Setenv("XDG_RUNTIME_DIR", dir)
		}, Options{}, nil},
		{"podman's home", func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, ".config", "containers", "auth.json"), authFile(host, "user", "right"), 0o600)
			t.Setenv("HOME", dir)
		}, Options{}, nil},
		{"a helper", helper("fake", `echo "{\"ServerURL\":\"$host\",\"Username\":\"user\",\"Secret\":\"right\"}"`), Options{}, nil},
		{"a helper that knows nothing", helper("fake", `echo "credentials not found in native keychain"; exit 1`), Options{}, ErrUnauthorized},
		{"a keychain of the caller's", nil, Options{Keychain: keychain{host: right}}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.set != nil {
				c.set(t)
			}
			if c.err == nil {
				mustOpen(t, target, c.options)
				return
			}
			mustFail(t, target, c.options, c.err)
		})
	}
	t.Run("right, but no such tag", func(t *testing.T) {
		err := mustFail(t, host+"/image:missing", Options{Credentials: []authn.Authenticator{wrong, right}}, ErrNotFound)
		assert.NotErrorIs(t, err, ErrUnauthorized, "that others were refused is not the reason")
	})
	t.Run("a broken configuration", func(t *testing.T) {
		dockerConfig("{")(t)
		assert.ErrorContains(t, mustFail(t, target, Options{}, nil), "credentials for "+host)
	})
}

// A keychain has credentials by host.
type keychain map[string]authn.Authenticator

func (k keychain) Resolve(target authn.Resource) (authn.Authenticator, error) {
	if found, ok := k[target.RegistryStr()]; ok {
		return found, nil
	}
	return authn.Anonymous, nil
}

func TestTLS(t *testing.T) {
	registry := testregistry.Start(t, testregistry.WithTLS())
	target := registry.Host() + "/image:tag"
	trusting := registry.Client().Transport
	testimage.Push(t, target, fixture(t), remote.WithTransport(trusting))
	recorded := record(trusting)
	mustOpen(t, target, Options{Transport: recorded})
	for _, s := range recorded.requests {
		assert.Equal(t, "https", s.scheme)
	}
	err := mustFail(t, target, Options{}, nil)
	assert.True(t, hasError[x509.UnknownAuthorityError](err), "error %v", err)
}

func TestIndex(t *testing.T) {
	host := testregistry.Start(t).Host()
	amd := testimage.Pair{OCI: fixtureOCI(t, "amd64", "")}
	arm := testimage.Pair{OCI: fixtureOCI(t, "arm", "v7")}
	amd.Nydus = testimage.Convert(t, amd.OCI, testimage.ConvertOptions{})
	arm.Nydus = testimage.Convert(t, arm.OCI, testimage.ConvertOptions{})
	both := map[string]testimage.IndexForm{"artifact-type": testimage.ByArtifactType, "os-feature": testimage.ByOSFeature}
	for form, number := range both {
		target := host + "/image:" + form
		digest := testimage.Push(t, target, testimage.Index(t, number, amd, arm))
		for _, c := range []struct {
			name         string
			platform     *v1.Platform
			architecture string // "" for none
		}{
			{"default", nil, "amd64"},
			{"amd64", &v1.Platform{OS: "linux", Architecture: "amd64"}, "amd64"},
			{"any OS", &v1.Platform{Architecture: "amd64"}, "amd64"},
			{"arm", &v1.Platform{OS: "linux", Architecture: "arm"}, "arm"},
			{"arm/v7", &v1.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}, "arm"},
			{"arm/v6", &v1.Platform{OS: "linux", Architecture: "arm", Variant: "v6"}, ""},
			{"s390x", &v1.Platform{OS: "linux", Architecture: "s390x"}, ""},
			{"any OS without", &v1.Platform{Architecture: "s390x"}, ""},
			{"windows", &v1.Platform{OS: "windows", Architecture: "amd64"}, ""},
			{"unknown", &v1.Platform{OS: "unknown", Architecture: "unknown"}, ""},
		} {
			t.Run(form+"/"+c.name, func(t *testing.T) {
				var notices []string
				o := Options{Platform: c.platform, Notice: func(line string) { notices = append(notices, line) }}
				if c.architecture == "" {
					err := mustFail(t, target, o, ErrPlatform)
					assert.ErrorContains(t, err, "it has linux/amd64, linux/arm/v7:")
					return
				}
				image := mustOpen(t, target, o)
				assert.Equal(t, digest, image.Descriptor.Digest)
				assert.NotEqual(t, digest, image.Digest)
				assert.Equal(t, c.architecture, image.Config.Architecture)
				require.Len(t, notices, 1)
				assert.Contains(t, notices[0], "has an OCI and a Nydus image for linux/"+c.architecture)
				assert.Contains(t, notices[0], "reading the Nydus image "+image.Digest.String()+", not the OCI image sha256:")
			})
		}
	}
	t.Run("a platform without a Nydus image", func(t *testing.T) {
		target := host + "/image:mixed"
		testimage.Push(t, target, testimage.Index(t, testimage.ByArtifactType, amd, testimage.Pair{OCI: arm.OCI}))
		err := mustFail(t, target, Options{Platform: &v1.Platform{OS: "linux", Architecture: "arm"}}, nil)
		assert.True(t, hasError[*NotNydusError](err), "error %v", err)
	})
	t.Run("Nydus images alone", func(t *testing.T) {
		target := host + "/image:alone"
		testimage.Push(t, target, testimage.Index(t, testimage.ByArtifactType, testimage.Pair{Nydus: amd.Nydus}))
		mustOpen(t, target, Options{Notice: func(line string) { t.Errorf("notice %q", line) }})
	})
}

func TestMirrors(t *testing.T) {
	mirror, own := testregistry.Start(t), testregistry.Start(t, testregistry.WithHtpasswd("user", "right"))
	credentials := []authn.Authenticator{basic("user", "right")}
	testimage.Push(t, mirror.Host()+"/image:tag", fixture(t))
	testimage.Push(t, mirror.Host()+"/prefix/image:tag", fixture(t))
	testimage.Push(t, own.Host()+"/image:tag", fixture(t), remote.WithAuth(credentials[0]))
	const host, first, dead = "registry.test:5000", "mirror.test:5000", "dead.test:5000"
	open := func(t *testing.T, reference string, mirrors ...string) (*recorder, []string) {
		t.Helper()
		recorded := record(dialTo(map[string]string{host: own.Host(), first: mirror.Host()}))
		var notices []string
		image := mustOpen(t, reference, Options{
			Transport: recorded, PlainHTTP: true, Credentials: credentials,
			Mirrors: map[string][]string{host: mirrors}, Notice: func(line string) { notices = append(notices, line) },
		})
		assert.Equal(t, reference, image.Reference.String(), "the image keeps the name that was asked for")
		return recorded, notices
	}
	t.Run("first", func(t *testing.T) {
		recorded, notices := open(t, host+"/image:tag", first)
		assert.Equal(t, map[string][]string{first: {}}, recorded.authorizations(), "the mirror alone is asked, without credentials")
		assert.Equal(t, []string{"reading registry.test:5000/image:tag from its mirror mirror.test:5000"}, notices)
	})
	t.Run("with a prefix", func(t *testing.T) {
		recorded, _ := open(t, host+"/image:tag", first+"/prefix")
		assert.NotZero(t, recorded.count(first, "/v2/prefix/image/manifests/tag"))
	})
	t.Run("dead", func(t *testing.T) {
		recorded, notices := open(t, host+"/image:tag", dead)
		got := recorded.authorizations()
		assert.Empty(t, got[dead])
		assert.Contains(t, got[host], "Basic")
		assert.Empty(t, notices)
	})
	t.Run("without the image", func(t *testing.T) {
		testimage.Push(t, own.Host()+"/other:tag", fixture(t), remote.WithAuth(credentials[0]))
		recorded, _ := open(t, host+"/other:tag", first)
		got := recorded.authorizations()
		assert.Empty(t, got[first])
		assert.NotZero(t, recorded.count(first, "/v2/other/manifests/tag"))
		assert.Contains(t, got[host], "Basic")
	})
	t.Run("with credentials of its own", func(t *testing.T) {
		locked := record(dialTo(map[string]string{host: mirror.Host(), first: own.Host()}))
		mustOpen(t, host+"/image:tag", Options{
			Transport: locked, PlainHTTP: true, Mirrors: map[string][]string{host: {first}},
			Credentials: []authn.Authenticator{basic("other", "secret")}, Keychain: keychain{first: credentials[0]},
		})
		for _, s := range locked.requests {
			if s.authorization != "" {
				assert.Equal(t, first, s.host)
				assert.Equal(t, "Basic "+base64.StdEncoding.EncodeToString([]byte("user:right")), s.authorization)
			}
		}
	})
	t.Run("all fail", func(t *testing.T) {
		err := mustFail(t, host+"/image:missing", Options{
			Transport: dialTo(map[string]string{host: own.Host(), first: mirror.Host()}), PlainHTTP: true,
			Credentials: credentials, Mirrors: map[string][]string{host: {first}},
		}, ErrNotFound)
		assert.ErrorContains(t, err, first)
		assert.ErrorContains(t, err, host)
	})
}

// What is no matter of credentials is asked once, not with each of them.
func TestDeadHostIsAskedOnce(t *testing.T) {
	recorded := record(dialTo(nil))
	err := mustFail(t, "registry.test/image:tag", Options{
		Transport: recorded, Credentials: []authn.Authenticator{basic("a", "1"), basic("b", "2")},
	}, nil)
	assert.ErrorContains(t, err, "no such host")
	assert.Len(t, recorded.requests, 1)
}

// Manifests, tokens and ranges all pass the transport that repeats them.
func TestEverythingIsRetried(t *testing.T) {
	tokens := startTokens(t, 2)
	var recorded *recorder
	set(t, &retry, func(inner http.RoundTripper) http.RoundTripper { recorded = record(inner); return recorded })
	mustOpen(t, tokens.target, Options{Transport: tokens.transport, Credentials: tokens.credentials})
	for _, part := range []string{"/manifests/", "/blobs/"} {
		assert.NotZero(t, recorded.count(tokens.host, part), part)
	}
	assert.NotZero(t, recorded.count(tokenHost, "/token"))
}

// A registry that declares its manifests to be JSON, as a static file server
// does, is read all the same.
func TestMediaTypeOfItsOwn(t *testing.T) {
	registry := testregistry.Start(t)
	proxy := testregistry.CountingProxy(t, registry.Host())
	nydus := fixture(t)
	index := testimage.Index(t, testimage.ByArtifactType, testimage.Pair{OCI: fixtureOCI(t, "amd64", ""), Nydus: nydus})
	testimage.Push(t, registry.Host()+"/image:tag", nydus)
	testimage.Push(t, registry.Host()+"/image:index", index)
	proxy.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/manifests/") {
			return false
		}
		proxy.Forward(&retyped{w}, r)
		return true
	})
	mustOpen(t, proxy.Host()+"/image:tag", Options{})
	mustOpen(t, proxy.Host()+"/image:index", Options{})
}

type retyped struct{ http.ResponseWriter }

func (w *retyped) WriteHeader(code int) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.ResponseWriter.WriteHeader(code)
}

// TestManipulated spoils what a registry sends: nothing gets past the digests.
func TestManipulated(t *testing.T) {
	registry := testregistry.Start(t)
	digest := testimage.Push(t, registry.Host()+"/image:tag", fixture(t))
	for _, c := range []struct {
		name, path, says string
	}{
		{"manifest", "/manifests/", "does not match requested digest"},
		{"config", "/blobs/" + must(fixture(t).ConfigName()).String(), "digest mismatch"},
	} {
		t.Run(c.name, func(t *testing.T) {
			proxy := testregistry.CountingProxy(t, registry.Host())
			proxy.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.Contains(r.URL.Path, c.path) {
					return false
				}
				answer := httptest.NewRecorder()
				proxy.Forward(answer, r)
				body := []byte(strings.Replace(answer.Body.String(), "linux", "xinul", 1))
				body = []byte(strings.Replace(string(body), "nydus", "sudyn", 1))
				for key, values := range answer.Header() {
					w.Header()[key] = values
				}
				w.WriteHeader(answer.Code)
				w.Write(body)
				return true
			})
			err := mustFail(t, proxy.Host()+"/image@"+digest.String(), Options{}, nil)
			assert.ErrorContains(t, err, c.says)
		})
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func TestParsePlainHTTP(t *testing.T) {
	for _, plain := range []bool{false, true} {
		r, err := parseReference("registry.test/image", &Options{PlainHTTP: plain})
		require.NoError(t, err)
		assert.Equal(t, plain, r.Context().Scheme() == "http")
		assert.Equal(t, "registry.test/image:latest", r.Name())
		assert.IsType(t, name.Tag{}, r)
	}
}
