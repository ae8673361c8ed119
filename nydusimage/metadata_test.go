package nydusimage

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestUnfinishedMetadata: what a killed process was writing is never given, and goes
// with the next that is written; what a living one writes stays.
func TestUnfinishedMetadata(t *testing.T) {
	dir := t.TempDir()
	cache := NewMetadataCache(dir)
	require.NoError(t, cache.Put("kind", "name", []byte("data")))
	file := func(name string) string {
		path := filepath.Join(dir, "kind", newPrefix+name)
		require.NoError(t, os.WriteFile(path, []byte("da"), 0o600))
		return path
	}
	old, left := file("old"), file("left")
	held, release, err := createUnfinished(filepath.Join(dir, "kind"))
	require.NoError(t, err)
	defer held.Close()
	before := time.Now().Add(-2 * unfinishedAge)
	require.NoError(t, os.Chtimes(old, before, before))
	require.NoError(t, cache.Put("kind", "other", []byte("data")))
	require.NoFileExists(t, old)
	require.FileExists(t, held.Name())
	if runtime.GOOS != "windows" { // where only the age tells
		require.NoFileExists(t, left)
		release()
		require.NoError(t, cache.Put("kind", "third", []byte("data")))
		require.NoFileExists(t, held.Name())
	}
	require.Equal(t, []byte("data"), cache.Get("kind", "name"))
}

// TestMetadataOfManyWriters: those who write at once do not take each other's files
// for left behind.
func TestMetadataOfManyWriters(t *testing.T) {
	dir := t.TempDir()
	var writers sync.WaitGroup
	for w := range 8 {
		writers.Go(func() {
			for n := range 20 {
				name := fmt.Sprint(w, " ", n)
				assert.NoError(t, NewMetadataCache(dir).Put("kind", name, []byte(name)))
			}
		})
	}
	writers.Wait()
	for w := range 8 {
		for n := range 20 {
			name := fmt.Sprint(w, " ", n)
			assert.Equal(t, name, string(NewMetadataCache(dir).Get("kind", name)))
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, "kind", newPrefix+"*"))
	require.NoError(t, err)
	assert.Empty(t, left)
}
