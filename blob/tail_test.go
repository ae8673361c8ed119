package blob_test

import (
	"archive/tar"
	"crypto/sha256"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/blob"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

var update = flag.Bool("update", false, "write testdata anew from converted images")

// A fileSource is a blob in a file.
type fileSource struct{ *os.File }

func (f fileSource) Size() int64 {
	info, err := f.Stat()
	if err != nil {
		return 0
	}
	return info.Size()
}

// TestRealTails reads the tables of real blobs, of all forms that a converter
// makes, and compares them with what the converter and the bootstrap say.
func TestRealTails(t *testing.T) {
	image := testimage.BuildOCI(t, testimage.Spec{Name: "tail", Layers: []testimage.Layer{{
		testimage.Text("etc/hostname", "nydus\n"), testimage.Text("etc/motd", strings.Repeat("Be well. ", 1000)), testimage.Reg("empty", nil),
		testimage.Sym("link", "etc/motd"),
	}}})
	for name, options := range map[string]testimage.ConvertOptions{
		"v5":      {FSVersion: "5"},
		"v6-zstd": {FSVersion: "6"},
		"v6-lz4":  {FSVersion: "6", Compressor: "lz4_block"},
		"v6-none": {FSVersion: "6", Compressor: "none", Digester: "sha256"},
	} {
		t.Run(name, func(t *testing.T) {
			nydus := testimage.Convert(t, image, options)
			stored := nydus.Blobs[0]
			file, err := os.Open(stored.Path)
			require.NoError(t, err)
			defer file.Close()
			source := blob.FileSource(fileSource{file})

			toc, err := blob.ReadTOC(t.Context(), source)
			require.NoError(t, err)
			if options.FSVersion == "6" {
				assertTOCDigests(t, stored.Path, toc)
			}
			bootstrap, err := toc.Bootstrap(t.Context(), source)
			require.NoError(t, err)
			want, err := os.ReadFile(stored.BootstrapPath)
			require.NoError(t, err)
			assert.Equal(t, want, bootstrap, "the layer's bootstrap")

			merged, err := os.Open(nydus.BootstrapPath)
			require.NoError(t, err)
			defer merged.Close()
			tree, err := rafs.Open(merged, fileSource{merged}.Size())
			require.NoError(t, err)
			table := tree.Blobs()[0]
			assert.Equal(t, options.FSVersion == "6", blob.HasMeta(table))
			if options.FSVersion == "5" {
				keep(t, name+".blob", stored.Path)
				return
			}
			meta, err := blob.ReadMeta(t.Context(), source, table)
			require.NoError(t, err)
			carried := carriedMeta(t, nydus.BootstrapTar, stored.Digest.Hex)
			fromLayer, err := blob.ParseMeta(carried, table)
			require.NoError(t, err)
			compared := 0
			require.NoError(t, tree.Walk(func(path string, inode rafs.Inode) error {
				if !inode.IsRegular() {
					return nil
				}
				chunks, err := inode.Chunks()
				for i := range chunks {
					compared++
					c := chunks[i]
					assert.NoError(t, meta.Check(&c), path)
					assert.NoError(t, fromLayer.Check(&c), path)
					for what, change := range map[string]func(*rafs.Chunk){
						"offset":              func(c *rafs.Chunk) { c.CompressedOffset++ },
						"size":                func(c *rafs.Chunk) { c.CompressedSize++ },
						"uncompressed offset": func(c *rafs.Chunk) { c.UncompressedOffset += 4096 },
						"uncompressed size":   func(c *rafs.Chunk) { c.UncompressedSize++ },
						"index":               func(c *rafs.Chunk) { c.Index += table.ChunkCount },
						"compression":         func(c *rafs.Chunk) { c.Flags ^= rafs.ChunkCompressed },
						"encryption":          func(c *rafs.Chunk) { c.Flags ^= rafs.ChunkEncrypted },
					} {
						other := c
						change(&other)
						assert.ErrorIs(t, meta.Check(&other), rafs.ErrCorrupt, "another %s of %s", what, path)
					}
				}
				return err
			}))
			assert.NotZero(t, compared, "chunks")
			table.ChunkCount++
			_, err = blob.ParseMeta(carried, table)
			assert.ErrorIs(t, err, rafs.ErrCorrupt, "a blob table of another length")
			keep(t, name+".blob", stored.Path)
			if *update {
				require.NoError(t, os.WriteFile(filepath.Join("testdata", name+".meta"), carried, 0o644))
			}
		})
	}
}

// assertTOCDigests hashes the end of a blob as nydusd does and as converters do.
func assertTOCDigests(t *testing.T, name string, toc *blob.TOC) {
	t.Helper()
	data, err := os.ReadFile(name)
	require.NoError(t, err)
	table := data[int64(len(data))-toc.Size:]
	assert.True(t, toc.Is(sha256.Sum256(table)), "with its tar header")
	assert.True(t, toc.Is(sha256.Sum256(table[:len(table)-512])), "without")
	assert.False(t, toc.Is(sha256.Sum256(table[1:])))
}

// keep copies a small real blob to testdata, as a seed for fuzzing.
func keep(t *testing.T, name, path string) {
	t.Helper()
	if !*update {
		return
	}
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll("testdata", 0o755))
	require.NoError(t, os.WriteFile(filepath.Join("testdata", name), data, 0o644))
}

// carriedMeta reads a blob's table of chunks out of a bootstrap layer.
func carriedMeta(t *testing.T, archive, id string) []byte {
	t.Helper()
	file, err := os.Open(archive)
	require.NoError(t, err)
	defer file.Close()
	for files := tar.NewReader(file); ; {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			t.Fatalf("%s holds no blob.meta of %s", archive, id)
		}
		require.NoError(t, err)
		if strings.HasSuffix(header.Name, id+".blob.meta") {
			data, err := io.ReadAll(files)
			require.NoError(t, err)
			return data
		}
	}
}
