package nydusmount

import (
	"bytes"
	"cmp"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/blob"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// TestSpoiledTailIsReadAnew: a tail that was kept spoiled does not fail each scan
// from then on.
func TestSpoiledTailIsReadAnew(t *testing.T) {
	image, bootstrap, _ := opened(t, testimage.NewerLayout(t)+":crc32")
	layer, kept := &image.Layers[0], nydusimage.NewMetadataCache(t.TempDir())
	entries, err := blobEntries(image, bootstrap.Tree, allLayers(image))
	require.NoError(t, err)
	allowed := int64(0)
	read := func() *Tail {
		budget := rafs.NewBudget(rafs.BoundMetadata, cmp.Or(allowed, 1<<20))
		tail, err := readTail(t.Context(), image, layer, entries[layer.BlobID()], false, budget, kept)
		require.NoError(t, err)
		return tail
	}
	want := read()
	require.NotNil(t, want.Tree)
	for allowed = 256; ; allowed += 256 { // what it takes of the budget, and once only
		if _, err := readTail(t.Context(), image, layer, entries[layer.BlobID()], false, rafs.NewBudget(rafs.BoundMetadata, allowed), nil); err == nil {
			break
		}
	}
	name := tailName(image, layer, want.Start)
	sound := kept.Get(kindTail, name)
	require.NotEmpty(t, sound)
	spoiled := bytes.Clone(sound)
	spoiled[want.TOC.Part(blob.PartBootstrap).Offset-want.Start] ^= 1
	require.NoError(t, kept.Put(kindTail, name, spoiled))
	_, err = (&tailReader{layer: layer, limits: image.Limits()}).read(t.Context(), want.Start, spoiled, entries[layer.BlobID()])
	require.Error(t, err, "it shows")
	assert.Equal(t, want.Sum, read().Sum)
	assert.Equal(t, sound, kept.Get(kindTail, name))
}

// TestTailsAtOnce: the tails of many layers are asked for side by side.
func TestTailsAtOnce(t *testing.T) {
	registry := testregistry.Start(t)
	proxy := testregistry.CountingProxy(t, registry.Host())
	reference := proxy.Host() + "/test/many:v6"
	testimage.Push(t, reference, testimage.Convert(t, testimage.BuildOCI(t, testimage.ManyLayers(parallelTails+4)), testimage.ConvertOptions{}))
	image, err := nydusimage.Open(t.Context(), reference, nydusimage.Options{})
	require.NoError(t, err)
	defer image.Close()
	_, err = image.Bootstrap(t.Context())
	require.NoError(t, err)
	var asked atomic.Int64
	all := make(chan struct{})
	proxy.Intercept(func(http.ResponseWriter, *http.Request) bool {
		if asked.Add(1) == parallelTails {
			close(all)
		}
		select {
		case <-all:
		case <-time.After(10 * time.Second):
			t.Error("it is asked for one after the other")
		}
		return false
	})
	mount, err := Native(t.Context(), image)
	require.NoError(t, err)
	assert.EqualValues(t, parallelTails+4, asked.Load())
	require.NoError(t, mount.Close())
}
