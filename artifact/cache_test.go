package artifact

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aquasecurity/trivy/pkg/cache"
	ftypes "github.com/aquasecurity/trivy/pkg/fanal/types"
)

// TestUnfinishedCacheFile: a cache whose file was not finished when it was new is made
// anew, a whole one is not.
func TestUnfinishedCacheFile(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("it is left as it is")
	}
	dir := t.TempDir()
	put := func(t *testing.T) {
		c, closeCache, err := OpenCache(cache.Options{CacheDir: dir})
		require.NoError(t, err)
		defer closeCache()
		require.NoError(t, c.PutBlob(t.Context(), "sha256:known", ftypes.BlobInfo{SchemaVersion: ftypes.BlobJSONSchemaVersion}))
	}
	known := func(t *testing.T) bool {
		c, closeCache, err := OpenCache(cache.Options{CacheDir: dir})
		require.NoError(t, err)
		defer closeCache()
		_, missing, err := c.MissingBlobs(t.Context(), "", []string{"sha256:known"})
		require.NoError(t, err)
		return len(missing) == 0
	}
	put(t)
	assert.True(t, known(t))
	file := filepath.Join(dir, cacheFile)
	whole, err := os.ReadFile(file)
	require.NoError(t, err)
	for _, size := range []int{0, 1, 4096, 8192, 12288, newCacheFile - 1} {
		require.NoError(t, os.WriteFile(file, whole[:size], 0o600))
		assert.False(t, known(t), "%d bytes", size)
		put(t)
		assert.True(t, known(t), "%d bytes", size)
	}
}

// TestCacheIsLetGo: a cache that stays in use, and one that is not used any more, keeps
// no other from it for long.
func TestCacheIsLetGo(t *testing.T) {
	dir := t.TempDir()
	one, closeOne, err := OpenCache(cache.Options{CacheDir: dir})
	require.NoError(t, err)
	defer closeOne()
	other, closeOther, err := OpenCache(cache.Options{CacheDir: dir})
	require.NoError(t, err)
	defer closeOther()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second) // bbolt gives up after five
	defer cancel()
	ask := func(c cache.Cache) error {
		_, _, err := c.MissingBlobs(ctx, "", []string{"sha256:unknown"})
		return err
	}
	require.NoError(t, ask(one))
	require.NoError(t, ask(other), "the first is at rest")
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				assert.NoError(t, ask(one))
				time.Sleep(linger / 4)
			}
		}
	}()
	time.Sleep(10 * linger)
	assert.NoError(t, ask(other), "the first is in use")
	close(stop)
	<-stopped
}
