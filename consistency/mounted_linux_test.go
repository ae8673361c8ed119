package consistency

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
)

// mountedPair is pairOf with the Nydus image served by the real nydusd.
func mountedPair(t *testing.T, source, target testimage.Spec, options testimage.ConvertOptions) Images {
	t.Helper()
	images := pairOf(t, source, target, options)
	converted := testimage.Convert(t, testimage.BuildOCI(t, target), options)
	images.Mounted = Dir(testimage.Mount(t, converted.BootstrapPath, converted.BlobDir))
	return images
}

// TestComparesWhatNydusdServes gives the same answer as this process' own
// reading of the image.
func TestComparesWhatNydusdServes(t *testing.T) {
	for _, version := range []string{"5", "6"} {
		options := testimage.ConvertOptions{FSVersion: version}
		for _, spec := range []testimage.Spec{plain(), testimage.Odd(t), testimage.DebianApp(t)} {
			t.Run(spec.Name+"/v"+version, func(t *testing.T) {
				var counts Counts
				result := checkFilesystem(t.Context(), mountedPair(t, spec, spec, options), Options{}, &counts)
				require.NoError(t, result.Err)
				for _, d := range result.Differences {
					t.Error(d)
				}
				assert.NotZero(t, counts.FileBytes)
				for _, n := range result.Notes {
					assert.Equal(t, Note{"time/epoch", "nydusd shows the time of its own start where the image says 1970-01-01 00:00:00"}, n)
				}
				assert.Equal(t, spec.Name == "odd", len(result.Notes) == 1)
			})
		}
		t.Run("only the image says 1970/v"+version, func(t *testing.T) {
			target := alter(plain(), "dir/file", func(f *testimage.File) { f.ModTime = time.Unix(0, 0) })
			result := checkFilesystem(t.Context(), mountedPair(t, plain(), target, options), Options{}, new(Counts))
			require.NoError(t, result.Err)
			assert.Contains(t, fields(result), "dir/file mtime")
		})
		t.Run("different/v"+version, func(t *testing.T) {
			source := alter(plain(), "chunks", func(f *testimage.File) { f.Data[1<<20]++ })
			source = alter(source, "dir/file", func(f *testimage.File) { f.Data = []byte("short") })
			images := pairOf(t, source, plain(), options)
			want := checkFilesystem(t.Context(), images, Options{}, new(Counts))
			got := checkFilesystem(t.Context(), mountedPair(t, source, plain(), options), Options{}, new(Counts))
			require.NoError(t, want.Err)
			require.NoError(t, got.Err)
			require.Len(t, got.Differences, 2)
			for k, d := range got.Differences {
				assert.Equal(t, want.Differences[k].String(), d.String())
			}
		})
	}
}

// TestMountThatFails is not completed, where a read gives an error.
func TestMountThatFails(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	converted := testimage.Convert(t, testimage.BuildOCI(t, plain()), testimage.ConvertOptions{})
	blobs := t.TempDir() // with the blobs cut short
	for _, b := range converted.Blobs {
		data, err := os.ReadFile(b.Path)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(blobs, b.Digest.Hex), data[:100], 0o600))
	}
	images := pairOf(t, plain(), plain(), testimage.ConvertOptions{})
	images.Mounted = Dir(testimage.Mount(t, converted.BootstrapPath, blobs))
	result := checkFilesystem(t.Context(), images, Options{}, new(Counts))
	require.Error(t, result.Err)
	assert.Empty(t, result.Differences)
}
