package nydusimage

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestUnfinishedMetadata: what a killed process was writing is never given, and goes
// when it is old.
func TestUnfinishedMetadata(t *testing.T) {
	dir := t.TempDir()
	cache := NewMetadataCache(dir)
	require.NoError(t, cache.Put("kind", "name", []byte("data")))
	old, young := filepath.Join(dir, "kind", newPrefix+"1"), filepath.Join(dir, "kind", newPrefix+"2")
	for _, path := range []string{old, young} {
		require.NoError(t, os.WriteFile(path, []byte("da"), 0o600))
	}
	before := time.Now().Add(-2 * unfinishedAge)
	require.NoError(t, os.Chtimes(old, before, before))
	require.NoError(t, cache.Put("kind", "other", []byte("data")))
	require.NoFileExists(t, old)
	require.FileExists(t, young)
	require.Equal(t, []byte("data"), cache.Get("kind", "name"))
}
