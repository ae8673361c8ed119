package inspect_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/inspect"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
)

// overlay applies the trees of an image's layers.
func overlay(t *testing.T, n *testimage.Nydus) *nydusmount.Overlay {
	t.Helper()
	dir := t.TempDir()
	testimage.WriteLayout(t, dir, map[string]any{"nydus": n})
	source, err := nydusimage.Open(t.Context(), dir, nydusimage.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, source.Close()) })
	mount, err := nydusmount.Native(t.Context(), source)
	require.NoError(t, err)
	applied, err := mount.Overlay(t.Context())
	require.NoError(t, err)
	return applied
}

// TestOriginIsTheOverlays compares the layer that stat names with the layers'
// trees applied one onto the other, for every path.
func TestOriginIsTheOverlays(t *testing.T) {
	for _, spec := range []func(testing.TB) testimage.Spec{testimage.Odd, testimage.Tiny} {
		for _, version := range versions {
			s := spec(t)
			t.Run(s.Name+"/v"+version, func(t *testing.T) {
				i := open(t, s, testimage.ConvertOptions{FSVersion: version})
				applied := overlay(t, i.Nydus)
				by := make(map[string]int)
				for _, n := range document[[]inspect.Node](t, i.Session, "find") {
					stat := document[inspect.Stat](t, i.Session, "stat", fullPath(n))
					require.NotNil(t, stat.Layer, n.Path)
					name := strings.TrimPrefix(fullPath(n), "/")
					if name == "" {
						name = "."
					}
					layer, ok := applied.Layer(name)
					require.True(t, ok, n.Path)
					assert.Equal(t, layer+1, stat.Layer.Layer, "%s, by %s", n.Path, stat.Layer.By)
					assert.Equal(t, i.Blobs[layer].Digest.String(), stat.Layer.Digest)
					by[stat.Layer.By]++
				}
				assert.Len(t, by, 2, "both ways are tried: %v", by)
			})
		}
	}
}

// TestChanges: what the layers of Odd do to each other, as its source says.
func TestChanges(t *testing.T) {
	for _, version := range versions {
		t.Run("v"+version, func(t *testing.T) {
			i := open(t, testimage.Odd(t), testimage.ConvertOptions{FSVersion: version})
			changes := func(layer string) (list []string) {
				for _, c := range document[[]inspect.Change](t, i.Session, "layers", layer) {
					line := c.Change + " " + c.Path.Path
					if len(c.Fields) > 0 {
						line += " " + strings.Join(c.Fields, ",")
					}
					list = append(list, line)
				}
				slices.Sort(list)
				return list
			}
			assert.Equal(t, []string{
				"added /file-to-dir/inside", "added /opaque/upper", "added /same/3", "added /upper-only",
				"changed /dir-to-link type", "changed /file-to-dir type", "changed /link-to-file type",
				"changed /replaced mode,owner,content", "changed /same-size content",
				"deleted /gone", "deleted /gonedir", "deleted /hard/b", "deleted /opaque/lower", "deleted /opaque/sub",
			}, changes("2"))
			assert.Equal(t, []string{
				"added /metadata", "added /metadata/empty", "added /metadata/fifo", "added /metadata/link",
				"changed /dir mode", "deleted /upper-only",
			}, changes("3"))
			assert.Equal(t, []string{
				"added /gone", "added /hard/d", "added /hard/e", "added /opaque/top", "added /top",
			}, changes("4"))

			all := document[[]inspect.Layer](t, i.Session, "layers", "--changes")
			require.Len(t, all, 4)
			assert.Equal(t, &inspect.Changes{Tree: true, Added: 4, Changed: 5, Deleted: 5, Unchanged: 3}, all[1].Changes)
			assert.Zero(t, all[0].Changes.Changed+all[0].Changes.Deleted)
			assert.Nil(t, all[2].BlobIndex, "a layer without data is not in the blob table")
			for n, l := range all {
				assert.Equal(t, i.Blobs[n].Digest.String(), l.Digest)
				assert.NotEmpty(t, l.CreatedBy)
			}
			assert.Contains(t, text(t, i.Session, "layers", "2"), "C /replaced (mode, owner, content)\n")
		})
	}
}

// TestLayerTrees: a layer's own tree has its whiteouts, and files that later
// layers hide can be read.
func TestLayerTrees(t *testing.T) {
	for _, version := range versions {
		i := open(t, testimage.Odd(t), testimage.ConvertOptions{FSVersion: version})
		assert.Contains(t, text(t, i.Session, "ls", "--layer", "2", "/"), " .wh.gone\n")
		assert.Equal(t, "removed by layer 2\n", text(t, i.Session, "cat", "--layer", "1", "/gone"))
		assert.Equal(t, "back again\n", text(t, i.Session, "cat", "/gone"))
		assert.Equal(t, "/opaque/lower\n", text(t, i.Session, "find", "--layer", "1", "--name", "lower"))
		stat := document[inspect.Stat](t, i.Session, "stat", "--layer", "1", "/gone")
		require.Len(t, stat.Chunks, 1)
		assert.Equal(t, i.Blobs[0].Digest.Hex, stat.Chunks[0].BlobID, "not the placeholder")
	}
}

// TestDeadData: what a layer's own tree uses of its blob is all of the blob; what
// the image does not use of that is dead.
func TestDeadData(t *testing.T) {
	for _, version := range versions {
		for _, compressor := range []string{"zstd", "none"} {
			i := open(t, testimage.Odd(t), testimage.ConvertOptions{FSVersion: version, Compressor: compressor})
			dead := uint64(0)
			for _, use := range document[inspect.Stats](t, i.Session, "stats").Blobs {
				layer := document[[]inspect.Blob](t, i.Session, "blobs")[use.Index].Layer
				own := document[inspect.Stats](t, i.Session, "stats", "--layer", strconv.Itoa(*layer)).Blobs
				require.Len(t, own, 1)
				name := fmt.Sprintf("v%s, %s, blob %d", version, compressor, use.Index)
				assert.Equal(t, own[0].Used.CompressedSize, use.DataSize, name)
				assert.Equal(t, uint32(own[0].Used.Count), use.Chunks, name)
				require.NotNil(t, use.DeadBytes, name)
				assert.Equal(t, own[0].Used.CompressedSize-use.Used.CompressedSize, *use.DeadBytes, name)
				assert.Equal(t, uint64(own[0].Used.Count-use.Used.Count), *use.DeadChunks, name)
				dead += *use.DeadBytes
			}
			assert.NotZero(t, dead)
		}
	}
}

// TestReadsNothingBeforeItMust: commands about the tree cost nothing, cat costs
// one blob's tail and one chunk.
func TestReadsNothingBeforeItMust(t *testing.T) {
	i := open(t, testimage.Tiny(t), testimage.ConvertOptions{})
	read := func(words ...string) int64 {
		before := i.traffic.Bytes()
		text(t, i.Session, words...)
		return i.traffic.Bytes() - before
	}
	for _, words := range [][]string{
		{"stats"}, {"ls", "/etc"}, {"cd", "/etc"}, {"pwd"}, {"find", "/"}, {"blobs"}, {"layers"}, {"prefetch"}, {"chunk", "0", "0"},
		{"icheck", "128"}, {"manifest"}, {"config"}, {"help"}, {"stat", "/" + testimage.SecretPath},
	} {
		assert.Zero(t, read(words...), "%q", words)
	}
	stat := document[inspect.Stat](t, i.Session, "stat", "/"+testimage.SecretPath)
	layer := i.Blobs[stat.Layer.Layer-1]
	blobs := document[[]inspect.Blob](t, i.Session, "blobs")
	tail := layer.Size - int64(blobs[stat.Chunks[0].BlobIndex].Meta.Offset)
	assert.Equal(t, tail+int64(*stat.Chunks[0].CompressedSize), read("cat", "/"+testimage.SecretPath))
	assert.Zero(t, read("cat", "/"+testimage.SecretPath), "again")
}
