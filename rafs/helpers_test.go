package rafs_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// samples are the bootstraps in testdata that must be read whole.
var samples = []string{
	"tree-v5/bootstrap",
	"tree-v6/bootstrap",
	"nm-v6-acl/bootstrap",
	"nmaster-merge-v6/bootstrap",
	"nm-sn-batch/bootstrap",
	"nm-sn-enc/bootstrap",
	"n220-zran-multimember/bootstrap",
	"layers/layer1",
	"layers/layer2",
	"layers/layer3",
	"layers/layer4",
}

// load returns a file of testdata.
func load(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(t, err)
	return b
}

// openBytes opens a bootstrap that is in memory.
func openBytes(b []byte) (*rafs.Tree, error) {
	return rafs.Open(bytes.NewReader(b), int64(len(b)))
}

// openSample opens a bootstrap in testdata.
func openSample(t testing.TB, name string) *rafs.Tree {
	t.Helper()
	tree, err := openBytes(load(t, name))
	require.NoError(t, err, name)
	return tree
}

// plainBlob reads the chunks of an uncompressed blob and checks their SHA-256.
type plainBlob []byte

func (b plainBlob) ReadChunk(c *rafs.Chunk) ([]byte, error) {
	end := c.CompressedOffset + uint64(c.CompressedSize)
	if end > uint64(len(b)) {
		return nil, fmt.Errorf("it ends at %d in a blob of %d bytes", end, len(b))
	}
	data := b[c.CompressedOffset:end]
	if !c.HasDigest || sha256.Sum256(data) != c.Digest {
		return nil, fmt.Errorf("its digest is wrong")
	}
	return data, nil
}

// paths returns all paths of a tree in the order of Walk, with their inodes.
func paths(t testing.TB, tree *rafs.Tree) (list []string, inodes map[string]rafs.Inode) {
	t.Helper()
	inodes = make(map[string]rafs.Inode)
	require.NoError(t, tree.Walk(func(path string, i rafs.Inode) error {
		list = append(list, path)
		inodes[path] = i
		return nil
	}))
	return list, inodes
}

// find looks a path up.
func find(t testing.TB, tree *rafs.Tree, path string) rafs.Inode {
	t.Helper()
	inode, err := tree.Lookup(path)
	require.NoError(t, err)
	return inode
}
