package inspect_test

import (
	"crypto/sha256"
	"errors"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/blob"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/inspect"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// contents reads all files of an image by cat.
func contents(t *testing.T, s *inspect.Session) map[string][32]byte {
	t.Helper()
	sums := make(map[string][32]byte)
	for _, n := range document[[]inspect.Node](t, s, "find", "/", "--type", "f") {
		sums[fullPath(n)] = sha256.Sum256([]byte(text(t, s, "cat", fullPath(n))))
	}
	require.NotEmpty(t, sums)
	return sums
}

// everything asks all that can be asked of any image with data.
func everything(t *testing.T, s *inspect.Session) {
	t.Helper()
	all := document[[]inspect.Node](t, s, "find", "/")
	for k := 0; k < len(all); k += len(all)/200 + 1 {
		n := all[k]
		stat := document[inspect.Stat](t, s, "stat", fullPath(n))
		check := document[inspect.InodeCheck](t, s, "icheck", text10(n.Inode))
		assert.Equal(t, len(stat.OtherPaths)+1, len(check.Paths), n.Path)
		for _, c := range stat.Chunks {
			assertFound(t, s, n, c, c.Digest)
			assertFound(t, s, n, c, c.BlobID, text10(c.UncompressedOffset), "--uncompressed")
			if c.CompressedOffset != nil {
				assertFound(t, s, n, c, text10(uint64(c.BlobIndex)), text10(*c.CompressedOffset))
			}
		}
	}
	for _, command := range []string{"stats", "blobs"} {
		assert.NotEmpty(t, text(t, s, command))
	}
}

// assertFound asks for a chunk of a file.
func assertFound(t *testing.T, s *inspect.Session, n inspect.Node, c inspect.Chunk, words ...string) {
	t.Helper()
	for _, found := range document[[]inspect.UsedChunk](t, s, append([]string{"chunk"}, words...)...) {
		for _, use := range found.Files {
			if found.Index == c.Index && use.Path.Path == n.Path && use.FileOffset == *c.FileOffset {
				return
			}
		}
	}
	t.Errorf("chunk %q does not find chunk %d of %s", words, c.Index, n.Path)
}

// TestNewerForms: batches and encrypted data, of the same source, give the same
// files.
func TestNewerForms(t *testing.T) {
	layout := testimage.NewerLayout(t)
	want := contents(t, openLayout(t, layout+":crc32").Session)
	for _, form := range testimage.NewerForms() {
		t.Run(form, func(t *testing.T) {
			i := openLayout(t, layout+":"+form)
			assert.Equal(t, want, contents(t, i.Session))
			everything(t, i.Session)
			batches, encrypted := 0, 0
			for _, n := range document[[]inspect.Node](t, i.Session, "find", "/", "--type", "f", "--size", "+0") {
				for _, c := range document[inspect.Stat](t, i.Session, "stat", fullPath(n)).Chunks {
					assert.NotNil(t, c.CompressedOffset, "blob.meta is there")
					if c.Batch {
						batches++
					}
					if c.Encrypted {
						encrypted++
					}
				}
			}
			assert.Equal(t, strings.Contains(form, "batch"), batches > 0)
			assert.Equal(t, strings.HasPrefix(form, "encrypted"), encrypted > 0)
		})
	}
}

// TestZran: the data lies in the OCI layers.
func TestZran(t *testing.T) {
	oci := testimage.BuildOCI(t, testimage.Tiny(t))
	converted := testimage.Convert(t, oci, testimage.ConvertOptions{OCIRef: true})
	layout := t.TempDir()
	testimage.WriteLayout(t, layout, map[string]any{"oci": oci, "zran": converted})
	i := openLayout(t, layout+":zran")
	assert.Equal(t, contents(t, open(t, testimage.Tiny(t), testimage.ConvertOptions{}).Session), contents(t, i.Session))
	everything(t, i.Session)
	assert.Contains(t, text(t, i.Session, "blobs"), "ZRAN")
}

// TestBareBootstraps: what needs no image works on bootstraps alone.
func TestBareBootstraps(t *testing.T) {
	for _, sample := range []string{"tree-v5/bootstrap", "tree-v6/bootstrap", "nmaster-merge-v6/bootstrap", "nm-sn-batch/bootstrap", "nm-sn-enc/bootstrap", "layers/layer2"} {
		t.Run(sample, func(t *testing.T) {
			file := filepath.Join("..", "rafs", "testdata", sample)
			require.True(t, inspect.IsBootstrap(file))
			s, err := inspect.OpenBootstrap(file, nydusimage.Limits{})
			require.NoError(t, err)
			defer func() { assert.NoError(t, s.Close()) }()
			everything(t, s)
			for _, words := range [][]string{{"layers"}, {"toc", "0"}, {"manifest"}, {"config"}, {"ls", "--layer", "1"}} {
				_, _, err := ask(t.Context(), s, words...)
				assert.ErrorIs(t, err, inspect.ErrNoImage, "%q", words)
			}
			files := document[[]inspect.Node](t, s, "find", "/", "--type", "f", "--size", "+0")
			require.NotEmpty(t, files)
			_, _, err = ask(t.Context(), s, "cat", fullPath(files[0]))
			assert.ErrorIs(t, err, inspect.ErrNoImage)
		})
	}
	assert.False(t, inspect.IsBootstrap("forms_test.go"))
	assert.False(t, inspect.IsBootstrap("."))
	assert.False(t, inspect.IsBootstrap("no/such"))
}

// TestRefused: what is no bootstrap that can be read.
func TestRefused(t *testing.T) {
	_, err := inspect.OpenBootstrap(filepath.Join("..", "rafs", "testdata", "nm-tarfs", "bootstrap"), nydusimage.Limits{})
	assert.ErrorIs(t, err, rafs.ErrUnsupported)
	_, err = inspect.OpenBootstrap(filepath.Join("..", "rafs", "testdata", "nm-v6-optimize", "bootstrap"), nydusimage.Limits{})
	assert.ErrorIs(t, err, rafs.ErrCorrupt)
	_, err = inspect.OpenBootstrap("forms_test.go", nydusimage.Limits{})
	assert.ErrorIs(t, err, rafs.ErrCorrupt)
}

// TestDamagedData: nothing of a file is given that is not what its digest says,
// and no archive is left.
func TestDamagedData(t *testing.T) {
	converted := testimage.Convert(t, testimage.BuildOCI(t, testimage.Tiny(t)), testimage.ConvertOptions{Compressor: "none"})
	dir := t.TempDir()
	testimage.WriteLayout(t, dir, map[string]any{"nydus": converted})
	i := openLayout(t, dir)
	chunk := document[inspect.Stat](t, i.Session, "stat", "/"+testimage.SecretPath).Chunks[0]
	file := filepath.Join(dir, "blobs", "sha256", chunk.BlobID)
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	data[*chunk.CompressedOffset] ^= 1
	require.NoError(t, os.WriteFile(file, data, 0o644))

	output := filepath.Join(t.TempDir(), "out.tar")
	for _, words := range [][]string{{"cat", "/" + testimage.SecretPath}, {"export", "/srv", "-o", output}} {
		text, _, err := ask(t.Context(), i.Session, words...)
		assert.ErrorIs(t, err, blob.ErrDigest, "%q", words)
		assert.ErrorContains(t, err, "/"+testimage.SecretPath+": ")
		assert.Empty(t, text)
	}
	left, err := os.ReadDir(filepath.Dir(output))
	require.NoError(t, err)
	assert.Empty(t, left)
	assert.NotEmpty(t, text(t, i.Session, "cat", "/etc/debian_version"), "other files can be read")
	_, _, err = ask(t.Context(), i.Session, "cat", "/no/such")
	assert.True(t, errors.Is(err, os.ErrNotExist))
}
