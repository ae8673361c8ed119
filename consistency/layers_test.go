package consistency

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/blob"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// restored is the image with its layers stored in another way.
func restored(t testing.TB, image v1.Image, mediaType types.MediaType, store func(archive []byte) []byte) v1.Image {
	t.Helper()
	config, err := image.ConfigFile()
	require.NoError(t, err)
	layers, err := image.Layers()
	require.NoError(t, err)
	again := empty.Image
	for _, l := range layers {
		r, err := l.Uncompressed()
		require.NoError(t, err)
		archive, err := io.ReadAll(r)
		require.NoError(t, err)
		require.NoError(t, r.Close())
		again, err = mutate.Append(again, mutate.Addendum{Layer: static.NewLayer(store(archive), mediaType), MediaType: mediaType})
		require.NoError(t, err)
	}
	again, err = mutate.ConfigFile(again, config) // the diff IDs stay what they are
	require.NoError(t, err)
	return again
}

func gzipped(pieces int) func([]byte) []byte {
	return func(archive []byte) []byte {
		var stored bytes.Buffer
		for k := range pieces {
			w := gzip.NewWriter(&stored)
			w.Write(archive[len(archive)*k/pieces : len(archive)*(k+1)/pieces])
			w.Close()
		}
		return stored.Bytes()
	}
}

func zstandard(archive []byte) []byte {
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	half := len(archive) / 2
	stored := encoder.EncodeAll(archive[:half], []byte{0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 'h', 'i'}) // a skippable frame
	return encoder.EncodeAll(archive[half:], stored)
}

func plainly(archive []byte) []byte { return archive }

// checkAgainst checks an OCI image against the Nydus image of a spec.
func checkAgainst(t testing.TB, source v1.Image, target testimage.Spec) Result {
	t.Helper()
	dir := t.TempDir()
	testimage.WriteLayout(t, dir, map[string]any{
		"oci": source, "nydus": testimage.Convert(t, testimage.BuildOCI(t, target), testimage.ConvertOptions{}),
	})
	return checkFilesystem(t.Context(), openPair(t, dir+":oci", dir+":nydus"), Options{}, new(Counts))
}

func TestReadsLayersHoweverStored(t *testing.T) {
	image := testimage.BuildOCI(t, plain())
	for _, form := range []struct {
		mediaType types.MediaType
		store     func([]byte) []byte
	}{
		{types.OCILayer, gzipped(1)}, {types.OCILayer, gzipped(7)}, {types.DockerLayer, gzipped(1)},
		{types.OCILayerZStd, zstandard}, {dockerLayerZstd, zstandard},
		{types.OCIUncompressedLayer, plainly}, {types.DockerUncompressedLayer, plainly},
		{types.OCILayer, plainly}, // media types lie
	} {
		t.Run(string(form.mediaType), func(t *testing.T) {
			result := checkAgainst(t, restored(t, image, form.mediaType, form.store), plain())
			require.NoError(t, result.Err)
			assert.Empty(t, result.Differences)

			other := restored(t, testimage.BuildOCI(t, alter(plain(), "chunks", func(f *testimage.File) { f.Data[5]++ })), form.mediaType, form.store)
			result = checkAgainst(t, other, plain())
			require.NoError(t, result.Err)
			assert.Len(t, result.Differences, 1)
		})
	}
}

func TestRefusesLayersByName(t *testing.T) {
	image := testimage.BuildOCI(t, plain())
	for mediaType, says := range map[types.MediaType]string{
		types.DockerForeignLayer:          "foreign layers",
		types.OCIRestrictedLayer:          "foreign layers",
		types.OCILayer + "+encrypted":     "encrypted layers",
		"application/vnd.example.unknown": "is not that of a layer",
	} {
		result := checkAgainst(t, restored(t, image, mediaType, gzipped(1)), plain())
		require.ErrorIs(t, result.Err, rafs.ErrUnsupported)
		assert.ErrorContains(t, result.Err, says)
		assert.ErrorContains(t, result.Err, "layer 1 of 2")
		assert.Empty(t, result.Differences)
	}
}

// TestDamagedLayersAreNotCompared damages what is stored: that is no difference.
func TestDamagedLayersAreNotCompared(t *testing.T) {
	image := testimage.BuildOCI(t, plain())
	for name, form := range map[string]struct {
		mediaType types.MediaType
		store     func([]byte) []byte
	}{
		"gzip": {types.OCILayer, gzipped(1)}, "zstd": {types.OCILayerZStd, zstandard}, "plain": {types.OCIUncompressedLayer, plainly},
	} {
		dir := t.TempDir()
		source := restored(t, image, form.mediaType, form.store)
		testimage.WriteLayout(t, dir, map[string]any{
			"oci": source, "nydus": testimage.Convert(t, image, testimage.ConvertOptions{}),
		})
		manifest, err := source.Manifest()
		require.NoError(t, err)
		file := filepath.Join(dir, "blobs", "sha256", manifest.Layers[0].Digest.Hex)
		whole, err := os.ReadFile(file)
		require.NoError(t, err)
		damage := func(t *testing.T, data []byte, is error) {
			require.NoError(t, os.Chmod(file, 0o600))
			if data == nil {
				require.NoError(t, os.Remove(file))
			} else {
				require.NoError(t, os.WriteFile(file, data, 0o600))
			}
			result := checkFilesystem(t.Context(), openPair(t, dir+":oci", dir+":nydus"), Options{}, new(Counts))
			require.Error(t, result.Err)
			if is != nil {
				require.ErrorIs(t, result.Err, is)
			}
			assert.ErrorContains(t, result.Err, "OCI image: layer 1 of 2, sha256:")
			assert.Empty(t, result.Differences)
		}
		for _, at := range []int{0, 5, len(whole) / 3, len(whole) / 2, len(whole) - 1} {
			t.Run(fmt.Sprintf("%s, bit of byte %d of %d", name, at, len(whole)), func(t *testing.T) {
				data := bytes.Clone(whole)
				data[at] ^= 1
				damage(t, data, nil)
			})
		}
		t.Run(name+", truncated", func(t *testing.T) { damage(t, whole[:len(whole)-1], blob.ErrIncomplete) })
		t.Run(name+", longer", func(t *testing.T) { damage(t, append(bytes.Clone(whole), 0), blob.ErrIncomplete) })
		t.Run(name+", of another image", func(t *testing.T) {
			data := bytes.Clone(whole)
			copy(data[len(data)/2:], make([]byte, 100))
			damage(t, data, nil)
		})
		t.Run(name+", missing", func(t *testing.T) { damage(t, nil, blob.ErrIncomplete) })
	}
}

// TestDiffIDsAreVerified stores layers whose digest is right, and whose content
// is not what the config says.
func TestDiffIDsAreVerified(t *testing.T) {
	image := testimage.BuildOCI(t, plain())
	padded := restored(t, image, types.OCILayer, func(archive []byte) []byte { return gzipped(1)(append(archive, make([]byte, 512)...)) })
	result := checkAgainst(t, padded, plain())
	require.ErrorIs(t, result.Err, blob.ErrDigest)
	assert.ErrorContains(t, result.Err, "the config says")
}

// TestEmptyLayers checks an image with a layer of nothing, as merged indexes
// have it, and one without layers.
func TestEmptyLayers(t *testing.T) {
	spec := plain()
	spec.Layers = append([]testimage.Layer{nil}, spec.Layers...)
	result := checkAgainst(t, testimage.BuildOCI(t, spec), plain())
	require.NoError(t, result.Err)
	assert.Empty(t, result.Differences)

	result = checkAgainst(t, testimage.BuildOCI(t, testimage.Spec{Name: "nothing"}), plain())
	require.NoError(t, result.Err)
	for _, d := range result.Differences {
		assert.Equal(t, "extra", d.Field)
	}
	assert.NotEmpty(t, result.Differences)
}

// TestSparseTars reads what GNU tar writes of files with holes.
func TestSparseTars(t *testing.T) {
	dir := t.TempDir()
	file, err := os.Create(filepath.Join(dir, "sparse"))
	require.NoError(t, err)
	require.NoError(t, file.Truncate(5<<20+3))
	_, err = file.WriteAt([]byte("in the middle"), 2<<20)
	require.NoError(t, err)
	require.NoError(t, file.Close())
	require.NoError(t, os.WriteFile(filepath.Join(dir, "dense"), []byte("after it\n"), 0o644))
	want := Dir(dir)
	for _, format := range []string{"--format=gnu", "--format=posix --sparse-version=0.0", "--format=posix --sparse-version=0.1", "--format=posix --sparse-version=1.0"} {
		t.Run(format, func(t *testing.T) {
			args := append(strings.Fields(format), "--sparse", "-C", dir, "-cf", "-", "sparse", "dense")
			archive, err := exec.Command("tar", args...).Output()
			require.NoError(t, err)
			require.Less(t, len(archive), 1<<20)
			tree := treeOf(t, []io.Reader{bytes.NewReader(archive)})
			differences, err := Compare(tree, want)
			require.NoError(t, err)
			for _, d := range differences {
				if d.Path != "." && (d.Field != "mtime" || format != "--format=gnu") { // no nanoseconds there
					t.Error(d)
				}
			}
		})
	}
}

// TestUnreadableTarget has a bootstrap layer that is damaged.
func TestUnreadableTarget(t *testing.T) {
	image := testimage.BuildOCI(t, plain())
	nydus := testimage.Convert(t, image, testimage.ConvertOptions{})
	dir := t.TempDir()
	testimage.WriteLayout(t, dir, map[string]any{"oci": image, "nydus": nydus})
	layer := openPair(t, dir+":oci", dir+":nydus").Target.BootstrapLayer.Digest
	file := filepath.Join(dir, "blobs", "sha256", layer.Hex)
	require.NoError(t, os.Remove(file)) // it is read when the image is opened
	require.NoError(t, os.WriteFile(file, []byte("nothing"), 0o600))
	result := checkFilesystem(t.Context(), openPair(t, dir+":oci", dir+":nydus"), Options{}, new(Counts))
	require.Error(t, result.Err)
	assert.ErrorContains(t, result.Err, "Nydus image")
}
