//go:build linux

package nydusmount

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// TestShortOfItsSize: what the kernel takes for the end of a file is none before the
// size that the bootstrap says.
func TestShortOfItsSize(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	require.NoError(t, os.WriteFile(path, []byte("0123456789"), 0o600))
	blob := testimage.CraftedBlob{ID: "blob", Chunks: 1, Stored: 10, Size: 10}
	tree, err := rafs.OpenBytes(testimage.CraftV5([]testimage.CraftedFile{{Path: "a", Size: 10, Chunks: []testimage.CraftedChunk{{Stored: 10, Size: 10}}}},
		[]testimage.CraftedBlob{blob}, nil))
	require.NoError(t, err)
	inode, err := tree.Lookup("a")
	require.NoError(t, err)
	root, err := os.OpenRoot(dir)
	require.NoError(t, err)
	defer root.Close()
	file := (&mounted{daemon: &Daemon{}, root: root}).open("a", inode)
	defer file.Close()
	buffer := make([]byte, 8)
	n, err := file.ReadAt(buffer, 5)
	assert.Equal(t, 5, n)
	assert.Equal(t, io.EOF, err)

	require.NoError(t, os.Truncate(path, 7))
	n, err = file.ReadAt(buffer, 5)
	assert.Equal(t, 2, n)
	assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
	text, err := io.ReadAll(file)
	assert.Equal(t, "0123456", string(text))
	assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
	_, err = file.ReadAt(buffer, 10)
	assert.Equal(t, io.EOF, err, "at its end there is nothing more")
}

// TestOnCloseAfterIt: what is to be done before the end is done although that came first.
func TestOnCloseAfterIt(t *testing.T) {
	done := false
	(&Daemon{closed: true}).onClose(func() error { done = true; return nil })
	assert.True(t, done)
}
