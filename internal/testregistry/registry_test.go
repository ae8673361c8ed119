package testregistry_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
)

// get returns status and body of a GET, with a Range header and basic credentials where they are given.
func get(t *testing.T, client *http.Client, url, byteRange, user, password string) (int, string) {
	t.Helper()
	request, err := http.NewRequest(http.MethodGet, url, nil)
	require.NoError(t, err)
	if byteRange != "" {
		request.Header.Set("Range", byteRange)
	}
	if user != "" {
		request.SetBasicAuth(user, password)
	}
	response, err := client.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(body)
}

func TestRegistryAsksForCredentials(t *testing.T) {
	r := testregistry.Start(t, testregistry.WithHtpasswd("user", "pass"))
	for _, try := range []struct {
		user, password string
		status         int
	}{{"", "", 401}, {"user", "wrong", 401}, {"user", "pass", 200}} {
		status, _ := get(t, r.Client(), r.URL()+"/v2/", "", try.user, try.password)
		assert.Equal(t, try.status, status, "with %q:%q", try.user, try.password)
	}
}

func TestRegistrySpeaksTLS(t *testing.T) {
	r := testregistry.Start(t, testregistry.WithTLS())
	status, _ := get(t, r.Client(), r.URL()+"/v2/", "", "", "")
	assert.Equal(t, 200, status)
	_, err := http.Get(r.URL() + "/v2/")
	assert.ErrorContains(t, err, "certificate signed by unknown authority")
	assert.Contains(t, string(r.CA()), "BEGIN CERTIFICATE")
}

func TestProxyCounts(t *testing.T) {
	r := testregistry.Start(t)
	p := testregistry.CountingProxy(t, r.Host())
	img, err := random.Image(5000, 1)
	require.NoError(t, err)
	ref, err := name.ParseReference(p.Host() + "/some/image:tag")
	require.NoError(t, err)
	require.NoError(t, remote.Write(ref, img), "a push through the proxy")
	layers, err := img.Layers()
	require.NoError(t, err)
	digest, err := layers[0].Digest()
	require.NoError(t, err)
	blob := "/v2/some/image/blobs/" + digest.String()

	p.Reset()
	require.Zero(t, p.Requests())
	status, body := get(t, http.DefaultClient, p.URL()+blob, "bytes=100-299", "", "")
	assert.Equal(t, http.StatusPartialContent, status)
	assert.Len(t, body, 200)
	_, manifest := get(t, http.DefaultClient, p.URL()+"/v2/some/image/manifests/tag", "", "", "")
	client := p.Log()[0].Client
	assert.NotEmpty(t, client)
	assert.Equal(t, []testregistry.Request{
		{Client: client, Method: "GET", Path: blob, Range: "bytes=100-299", Status: 206, Bytes: 200},
		{Client: client, Method: "GET", Path: "/v2/some/image/manifests/tag", Status: 200, Bytes: int64(len(manifest))},
	}, p.Log())
	assert.Equal(t, 2, p.Requests())
	assert.EqualValues(t, 200+len(manifest), p.Bytes())
	assert.True(t, p.Log()[0].IsBlob() && p.Log()[1].IsManifest())
}

func TestProxyIntercepts(t *testing.T) {
	r := testregistry.Start(t)
	p := testregistry.CountingProxy(t, r.URL())
	p.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case strings.HasSuffix(r.URL.Path, "/teapot"):
			http.Error(w, "short and stout", http.StatusTeapot)
			return true
		case strings.HasSuffix(r.URL.Path, "/broken"):
			panic(http.ErrAbortHandler)
		case strings.HasSuffix(r.URL.Path, "/moved"):
			r.URL.Path = "/v2/"
			p.Forward(w, r)
			return true
		}
		return false
	})
	status, _ := get(t, http.DefaultClient, p.URL()+"/v2/teapot", "", "", "")
	assert.Equal(t, http.StatusTeapot, status)
	_, err := http.Get(p.URL() + "/v2/broken")
	assert.Error(t, err)
	status, _ = get(t, http.DefaultClient, p.URL()+"/v2/moved", "", "", "")
	assert.Equal(t, 200, status)
	status, _ = get(t, http.DefaultClient, p.URL()+"/v2/", "", "", "")
	assert.Equal(t, 200, status)

	p.Intercept(nil)
	status, _ = get(t, http.DefaultClient, p.URL()+"/v2/teapot", "", "", "")
	assert.Equal(t, 404, status)
}
