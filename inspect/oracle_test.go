package inspect_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/inspect"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
)

// request asks the real nydus-image what it says of a bootstrap.
func request(t *testing.T, bootstrap, command string) (value any) {
	t.Helper()
	cmd := exec.Command(testimage.Tools(t).NydusImage, "inspect", "-R", command, bootstrap)
	output, err := cmd.Output()
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(output, &value), "%s", output)
	return value
}

// restrict takes from a document what another has, too: ours says more.
func restrict(ours, theirs any) any {
	switch theirs := theirs.(type) {
	case map[string]any:
		object, _ := ours.(map[string]any)
		kept := make(map[string]any)
		for key, value := range theirs {
			kept[key] = restrict(object[key], value)
		}
		return kept
	case []any:
		array, _ := ours.([]any)
		if len(array) != len(theirs) {
			return ours
		}
		kept := []any{}
		for i := range array {
			kept = append(kept, restrict(array[i], theirs[i]))
		}
		return kept
	}
	return ours
}

// TestSaysWhatNydusImageSays compares with the request mode of nydus-image
// inspect: all that it gives is in our documents.
func TestSaysWhatNydusImageSays(t *testing.T) {
	for _, spec := range []func(testing.TB) testimage.Spec{testimage.Odd, testimage.Tiny, testimage.DebianApp} {
		for _, version := range versions {
			s := spec(t)
			t.Run(s.Name+"/v"+version, func(t *testing.T) {
				i := open(t, s, testimage.ConvertOptions{FSVersion: version})
				for _, command := range []string{"stats", "blobs", "prefetch"} {
					theirs := request(t, i.BootstrapPath, command)
					assert.Equal(t, theirs, restrict(document[any](t, i.Session, command), theirs), command)
				}
			})
		}
	}
}

// TestCountsWhatNydusImageCounts compares with nydus-image stat.
func TestCountsWhatNydusImageCounts(t *testing.T) {
	for _, spec := range []func(testing.TB) testimage.Spec{testimage.Odd, testimage.DebianApp} {
		for _, version := range versions {
			s := spec(t)
			t.Run(s.Name+"/v"+version, func(t *testing.T) {
				i := open(t, s, testimage.ConvertOptions{FSVersion: version})
				file := filepath.Join(t.TempDir(), "stat.json")
				output, err := exec.Command(testimage.Tools(t).NydusImage, "stat", "-B", i.BootstrapPath, "-J", file).CombinedOutput()
				require.NoError(t, err, "%s", output)
				raw, err := os.ReadFile(file)
				require.NoError(t, err)
				var theirs struct {
					Image struct {
						Dirs        int       `json:"dirs"`
						Files       int       `json:"files"`
						Symlinks    int       `json:"symlinks"`
						Chunks      int       `json:"chunks"`
						FileSize    uint64    `json:"file_size"`
						CompSize    uint64    `json:"comp_size"`
						PaddingSize uint64    `json:"padding_size"`
						ChunkSizes  [9]uint64 `json:"chunk_sizes"`
						FileSizes   [45]int   `json:"file_sizes"`
						OwnChunks   int       `json:"own_chunks"`
						OwnComp     uint64    `json:"own_comp_size"`
						OwnUncomp   uint64    `json:"own_uncomp_size"`
					} `json:"base_image"`
				}
				require.NoError(t, json.Unmarshal(raw, &theirs))
				want, got := theirs.Image, document[inspect.Stats](t, i.Session, "stats")
				assert.Equal(t, want.Dirs, got.Names.Directories)
				assert.Equal(t, want.Files, got.Names.Files)
				assert.Equal(t, want.Symlinks, got.Names.Symlinks)
				assert.Equal(t, want.Chunks, got.Chunks.Count)
				assert.Equal(t, want.CompSize, got.Chunks.CompressedSize)
				assert.Equal(t, want.FileSize, got.FileSize)
				assert.Equal(t, want.PaddingSize, got.Padding)
				assert.Equal(t, want.ChunkSizes, got.ChunksBySize)
				assert.Equal(t, want.FileSizes, got.FileSizes)
				assert.Equal(t, want.OwnChunks, got.UniqueChunks.Count)
				assert.Equal(t, want.OwnComp, got.UniqueChunks.CompressedSize)
				assert.Equal(t, want.OwnUncomp, got.UniqueChunks.UncompressedSize)
			})
		}
	}
}
