package rafs_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
)

// TestChunkViews is why two chunks must not share a number or a place: nydusd 2.2.0,
// which by default validates no digests, shows one for the other.
func TestChunkViews(t *testing.T) {
	clean, evil := bytes.Repeat([]byte("clean..\n"), 512), bytes.Repeat([]byte("evil...\n"), 512)
	blob := append(bytes.Clone(clean), evil...)
	id := fmt.Sprintf("%x", sha256.Sum256(blob))
	const size = 4096
	chunk := func(content []byte, index uint32, place uint64) testimage.CraftedChunk {
		c := testimage.CraftedChunk{Index: index, Stored: size, Size: size, Place: place, Digest: sha256.Sum256(content)}
		if bytes.Equal(content, evil) {
			c.Offset = size
		}
		return c
	}
	lying := chunk(evil, 1, 0)
	lying.Digest = sha256.Sum256(clean)
	for name, c := range map[string]struct {
		chunks []testimage.CraftedChunk // of files that are read in this order
		says   string
	}{
		"one number": {[]testimage.CraftedChunk{chunk(evil, 1, size), chunk(clean, 0, 0), chunk(clean, 0, size)}, "have number 0"},
		"one place":  {[]testimage.CraftedChunk{chunk(clean, 0, 0), chunk(evil, 1, 0), chunk(clean, 0, 0)}, "share bytes"},
		// Of one digest, but stored elsewhere.
		"one digest": {[]testimage.CraftedChunk{chunk(clean, 0, 0), lying, chunk(clean, 0, 0)}, "share bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			var files []testimage.CraftedFile
			for k, chunk := range c.chunks {
				files = append(files, testimage.CraftedFile{Path: fmt.Sprint(k), Size: size, Chunks: []testimage.CraftedChunk{chunk}})
			}
			boot := testimage.CraftV5(files, []testimage.CraftedBlob{{ID: id, Chunks: 2, Stored: 2 * size, Size: 2 * size}}, nil)
			refuses(t, boot, c.says)

			dir := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, id), blob, 0o600))
			require.NoError(t, os.WriteFile(filepath.Join(dir, "bootstrap"), boot, 0o600))
			mounted := testimage.MountUnvalidated(t, filepath.Join(dir, "bootstrap"), dir)
			var last []byte
			for k := range files {
				var err error
				last, err = os.ReadFile(filepath.Join(mounted, fmt.Sprint(k)))
				require.NoError(t, err)
				time.Sleep(300 * time.Millisecond) // it writes its cache later
			}
			assert.Equal(t, string(evil[:8]), string(last[:8]), "by its digest the last file is clean")
		})
	}
}

// TestCheckFirstInode: nydusd takes no inode that begins where the superblock ends.
func TestCheckFirstInode(t *testing.T) {
	b := craft(testimage.CraftedFile{Path: "a"})
	for _, p := range found(problemsOf(b)) {
		require.NotEqual(t, ".: inode", p)
	}
	const superblock, root = 8192, 8192 + 8
	copy(b[superblock:], b[root:root+128+8])
	le.PutUint32(b[le.Uint64(b[32:]):], superblock/8)
	requireProblem(t, b, ".: inode")
}
