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
// with the first that another writes; what a living one writes stays.
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
	require.NoError(t, NewMetadataCache(dir).Put("kind", "other", []byte("data")))
	require.NoFileExists(t, old)
	require.FileExists(t, held.Name())
	if runtime.GOOS != "windows" { // where only the age tells
		require.NoFileExists(t, left)
		release()
		require.NoError(t, NewMetadataCache(dir).Put("kind", "third", []byte("data")))
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

// TestMetadataRoom: what was not used for longest goes when there is too much, and all that
// is there is looked at only when there may be.
func TestMetadataRoom(t *testing.T) {
	cache := NewMetadataCache(t.TempDir())
	const count, size = 10, maxMetadata / 9
	large := func(n int) string { return cache.path("kind", fmt.Sprint(n)) }
	require.NoError(t, cache.Put("kind", "first", []byte("data")))
	for n := range count {
		require.NoError(t, os.WriteFile(large(n), nil, 0o600))
		require.NoError(t, os.Truncate(large(n), size)) // takes no room on the disk
		used := time.Now().Add(time.Duration(n-count) * time.Minute)
		require.NoError(t, os.Chtimes(large(n), used, used))
	}
	require.NoError(t, cache.Put("kind", "second", []byte("data")))
	assert.FileExists(t, large(0), "there was room when it looked")

	another := NewMetadataCache(cache.dir)
	require.NoError(t, another.Put("kind", "third", []byte("data")))
	for n := range count {
		if n < 3 { // 7 of 9 are within seven eighths
			assert.NoFileExists(t, large(n))
		} else {
			assert.FileExists(t, large(n))
		}
	}
	another.room = 0
	require.NoError(t, os.Truncate(large(9), 4*size))
	require.NoError(t, another.Put("kind", "fourth", []byte("data")))
	assert.NoFileExists(t, large(3))
	for _, name := range []string{"first", "second", "third", "fourth"} {
		assert.Equal(t, "data", string(another.Get("kind", name)))
	}
}
