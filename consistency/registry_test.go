package consistency

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/blob"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
)

// pushedPair pushes an image and its twin and opens both through a proxy that
// counts.
func pushedPair(t *testing.T, spec testimage.Spec) (Images, *testregistry.Proxy) {
	t.Helper()
	registry := testregistry.Start(t)
	source := testimage.BuildOCI(t, spec)
	testimage.Push(t, registry.Host()+"/image:oci", source)
	testimage.Push(t, registry.Host()+"/image:nydus", testimage.Convert(t, source, testimage.ConvertOptions{}))
	proxy := testregistry.CountingProxy(t, registry.Host())
	images := openPair(t, proxy.Host()+"/image:oci", proxy.Host()+"/image:nydus")
	proxy.Reset()
	return images, proxy
}

// TestReadsLayersOnceAndNoBlob asks a registry for the OCI layers, each once,
// and of the Nydus image for nothing beside its bootstrap, which came when it was
// opened.
func TestReadsLayersOnceAndNoBlob(t *testing.T) {
	images, proxy := pushedPair(t, testimage.Odd(t))
	_, err := images.Target.Bootstrap(t.Context())
	require.NoError(t, err)
	proxy.Reset()
	want := map[string]int{}
	for _, l := range images.Source.Layers {
		want[l.Digest.String()]++
	}
	var counts Counts
	result := checkFilesystem(t.Context(), images, Options{}, &counts)
	require.NoError(t, result.Err)
	assert.Empty(t, result.Differences)
	asked := make(map[string]int)
	for _, r := range proxy.Log() {
		asked[r.Path[strings.LastIndex(r.Path, "/")+1:]]++
	}
	assert.Equal(t, want, asked)
	assert.Equal(t, proxy.Bytes(), counts.LayerBytes)
}

// TestResumesLayers breaks every answer off in its middle, the first time.
func TestResumesLayers(t *testing.T) {
	images, proxy := pushedPair(t, testimage.Odd(t))
	var broken atomic.Int32
	proxy.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Range") != "bytes=0-" {
			return false
		}
		broken.Add(1)
		proxy.Forward(&cutWriter{w, 300}, r)
		return true
	})
	result := checkFilesystem(t.Context(), images, Options{}, new(Counts))
	require.NoError(t, result.Err)
	assert.Empty(t, result.Differences)
	assert.EqualValues(t, len(images.Source.Layers), broken.Load())
}

// cutWriter breaks the connection after some bytes.
type cutWriter struct {
	http.ResponseWriter
	left int
}

func (c *cutWriter) Write(p []byte) (int, error) {
	n, _ := c.ResponseWriter.Write(p[:min(len(p), c.left)])
	if c.left -= n; c.left == 0 {
		_ = http.NewResponseController(c.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	return n, nil
}

// TestRegistryThatFails is not completed.
func TestRegistryThatFails(t *testing.T) {
	images, proxy := pushedPair(t, testimage.Odd(t))
	gone := images.Source.Layers[1].Digest.String()
	proxy.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, gone) {
			w.WriteHeader(http.StatusNotFound)
			return true
		}
		return false
	})
	result := checkFilesystem(t.Context(), images, Options{}, new(Counts))
	require.ErrorIs(t, result.Err, blob.ErrIncomplete)
	assert.ErrorContains(t, result.Err, "OCI image: layer 2 of 4, "+gone)
	assert.Empty(t, result.Differences)
}
