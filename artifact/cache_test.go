package artifact

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

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
	open := func(t *testing.T) cache.Cache {
		c, closeCache, err := OpenCache(cache.Options{CacheDir: dir})
		require.NoError(t, err)
		t.Cleanup(closeCache)
		return c
	}
	put := func(t *testing.T) {
		require.NoError(t, open(t).PutBlob(t.Context(), "sha256:known", ftypes.BlobInfo{SchemaVersion: ftypes.BlobJSONSchemaVersion}))
	}
	known := func(t *testing.T) bool {
		_, missing, err := open(t).MissingBlobs(t.Context(), "", []string{"sha256:known"})
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
