package nydusmount_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/consistency"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
)

// open converts an image, stores it as an OCI layout and opens that natively.
func open(t *testing.T, spec testimage.Spec, options testimage.ConvertOptions) (*testimage.Nydus, *nydusmount.Mount) {
	t.Helper()
	converted := testimage.Convert(t, testimage.BuildOCI(t, spec), options)
	dir := t.TempDir()
	testimage.WriteLayout(t, dir, map[string]any{"nydus": converted})
	image, err := nydusimage.Open(t.Context(), dir, nydusimage.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, image.Close()) })
	mount, err := nydusmount.Native(t.Context(), image)
	require.NoError(t, err)
	return converted, mount
}

// forms are the ways in which converters write an image.
func forms() []testimage.ConvertOptions {
	var all []testimage.ConvertOptions
	for _, version := range []string{"5", "6"} {
		for _, compressor := range []string{"zstd", "lz4_block", "none"} {
			all = append(all, testimage.ConvertOptions{FSVersion: version, Compressor: compressor})
		}
		all = append(all,
			testimage.ConvertOptions{FSVersion: version, Compressor: "zstd", ChunkSize: 0x1000},
			testimage.ConvertOptions{FSVersion: version, Compressor: "zstd", ChunkSize: 0x400000, Digester: "sha256"})
	}
	return all
}

func name(o testimage.ConvertOptions) string {
	return fmt.Sprintf("v%s,%s,%#x,%s", o.FSVersion, o.Compressor, o.ChunkSize, o.Digester)
}

// TestReadsWhatNydusdShows compares every field and byte with a mount by the
// real nydusd.
func TestReadsWhatNydusdShows(t *testing.T) {
	for _, spec := range []func(testing.TB) testimage.Spec{testimage.Odd, testimage.Tiny, testimage.WhiteoutInBase, testimage.Lossy} {
		for _, form := range forms() {
			s := spec(t)
			if s.Name == "lossy" && form.FSVersion == "5" {
				// The builder makes a hard link to a FIFO a regular file with the
				// FIFO's inode number; which of the two the kernel then shows
				// depends on which it saw first.
				continue
			}
			t.Run(s.Name+"/"+name(form), func(t *testing.T) {
				converted, mount := open(t, s, form)
				dir := testimage.Mount(t, converted.BootstrapPath, converted.BlobDir)
				differences, err := consistency.Compare(consistency.Dir(dir), consistency.Tree(mount.Merged.Tree, mount.Merged.Data))
				require.NoError(t, err)
				for _, d := range differences {
					// nydusd shows its own start time for a time of 0.
					if d.Field == "mtime" && strings.HasPrefix(d.Got, "1970-01-01 00:00:00 ") {
						continue
					}
					t.Error(d)
				}
			})
		}
	}
}

// TestLayerTreesGiveMergedTree applies the trees that the blobs carry.
func TestLayerTreesGiveMergedTree(t *testing.T) {
	for _, spec := range []func(testing.TB) testimage.Spec{testimage.Odd, testimage.Debian, testimage.DebianApp, testimage.Lossy} {
		for _, version := range []string{"5", "6"} {
			s := spec(t)
			t.Run(s.Name+"/v"+version, func(t *testing.T) {
				_, mount := open(t, s, testimage.ConvertOptions{FSVersion: version, Compressor: "zstd"})
				require.True(t, mount.LayerTrees(), "every blob carries its layer's bootstrap")
				overlay, err := mount.Overlay(t.Context())
				require.NoError(t, err)
				contradiction, err := overlay.Compare(t.Context(), mount.Merged.Tree)
				require.NoError(t, err)
				assert.Nil(t, contradiction)
			})
		}
	}
}

// TestContradictionIsFound swaps the trees of two layers.
func TestContradictionIsFound(t *testing.T) {
	_, mount := open(t, testimage.Odd(t), testimage.ConvertOptions{})
	mount.Layers[0], mount.Layers[1] = mount.Layers[1], mount.Layers[0]
	overlay, err := mount.Overlay(t.Context())
	require.NoError(t, err)
	contradiction, err := overlay.Compare(t.Context(), mount.Merged.Tree)
	require.NoError(t, err)
	require.NotNil(t, contradiction)
	assert.NotEmpty(t, contradiction.Path)
	assert.NotEmpty(t, contradiction.Reason)
}
