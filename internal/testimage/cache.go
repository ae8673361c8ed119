package testimage

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// generation is part of every cache key: raise it when a builder's output changes for the same input.
const generation = "1"

// CacheDir is where tools and built images are kept between runs: $TRIVY_NYDUS_TOOLS, else
// ~/.cache/trivy-nydus-tools. scripts/tools.sh uses the same folder.
func CacheDir(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv("TRIVY_NYDUS_TOOLS"); dir != "" {
		return dir
	}
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatalf("find the tools cache: TRIVY_NYDUS_TOOLS is not set and %v", err)
	}
	return filepath.Join(home, ".cache", "trivy-nydus-tools")
}

// cached returns the folder that build once filled for this kind and key. A half-built folder is never seen: build
// works in a temporary one that takes the final name at the end, and a lock keeps other processes from building the
// same at the same time.
func cached(t testing.TB, kind, key string, build func(dir string) error) string {
	t.Helper()
	final := filepath.Join(CacheDir(t), "testimage", kind, key)
	if isDir(final) {
		return final
	}
	parent := filepath.Dir(final)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		t.Fatalf("make the cache folder: %v", err)
	}
	unlock, err := lock(final + ".lock")
	if err != nil {
		t.Fatalf("lock the cache entry %s: %v", final, err)
	}
	defer unlock()
	if isDir(final) {
		return final
	}
	if left, err := filepath.Glob(final + ".tmp*"); err == nil { // by killed runs: with the lock held, nobody works there
		for _, dir := range left {
			os.RemoveAll(dir)
		}
	}
	tmp, err := os.MkdirTemp(parent, key+".tmp")
	if err != nil {
		t.Fatalf("make a temporary cache folder: %v", err)
	}
	defer os.RemoveAll(tmp)
	if err := build(tmp); err != nil {
		t.Fatalf("build %s %s: %v", kind, key, err)
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		t.Fatalf("open the cache entry to readers: %v", err)
	}
	if err := os.Rename(tmp, final); err != nil {
		t.Fatalf("put the cache entry %s into place: %v", final, err)
	}
	return final
}

func isDir(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.IsDir()
}

// cacheKey hashes the parts that a cached thing is made from. Lengths go in too, so that parts do not run together.
func cacheKey(parts ...string) string {
	h := sha256.New()
	for _, p := range append([]string{generation}, parts...) {
		fmt.Fprintf(h, "%d:", len(p))
		io.WriteString(h, p)
	}
	return hex.EncodeToString(h.Sum(nil))[:32]
}
