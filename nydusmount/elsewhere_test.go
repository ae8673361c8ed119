//go:build linux

package nydusmount_test

import (
	"encoding/json"
	"io"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// localfs is the backend that is a folder.
func localfs(t *testing.T, dir string) nydusmount.Backend {
	t.Helper()
	config, err := json.Marshal(map[string]string{"dir": dir})
	require.NoError(t, err)
	backend, err := nydusmount.ParseBackend("localfs", config)
	require.NoError(t, err)
	return backend
}

// stored is an image in an OCI layout, opened.
func stored(t *testing.T, image any) *nydusimage.Image {
	t.Helper()
	dir := t.TempDir()
	testimage.WriteLayout(t, dir, map[string]any{"nydus": image})
	return opened(t, dir, nydusimage.Options{})
}

// TestOnlyBootstrap reads an image whose blobs lie in a backend: through nydusd
// with the backend that the user names, not without, and never natively.
func TestOnlyBootstrap(t *testing.T) {
	dir := temp(t)
	for _, version := range []string{"5", "6"} {
		t.Run("v"+version, func(t *testing.T) {
			converted := testimage.Convert(t, testimage.BuildOCI(t, testimage.Odd(t)), testimage.ConvertOptions{FSVersion: version})
			image := stored(t, testimage.OnlyBootstrap(t, converted, nil))
			require.Empty(t, image.Layers)
			_, err := nydusmount.Native(t.Context(), image)
			assert.ErrorIs(t, err, nydusmount.ErrBackend)
			assert.ErrorIs(t, err, rafs.ErrUnsupported)
			assert.ErrorContains(t, err, "the manifest lists no data blobs")
			_, err = nydusmount.Nydusd(t.Context(), image, nydusmount.Options{Program: "/nowhere/nydusd"})
			assert.ErrorIs(t, err, nydusmount.ErrBackend, "before nydusd is looked for")

			whole, err := nydusmount.Native(t.Context(), stored(t, converted))
			require.NoError(t, err)
			mount, err := nydusmount.Nydusd(t.Context(), image,
				nydusmount.Options{Program: testimage.Tools(t).Nydusd, Backend: localfs(t, converted.BlobDir)})
			require.NoError(t, err)
			assert.Empty(t, mount.Layers)
			files := 0
			require.NoError(t, mount.Merged.Walk(func(path string, inode rafs.Inode) error {
				if !inode.IsRegular() {
					return nil
				}
				files++
				a, b := whole.Merged.Open(path, inode), mount.Merged.Open(path, inode)
				defer a.Close()
				defer b.Close()
				want, err := io.ReadAll(a)
				require.NoError(t, err)
				got, err := io.ReadAll(b)
				require.NoError(t, err, path)
				assert.Equal(t, want, got, path)
				return nil
			}))
			assert.NotZero(t, files)
			require.NoError(t, mount.Close())
			assertGone(t, dir)
		})
	}
}

// TestBackendOfTheImage: what a backend.json names is neither contacted nor
// opened, be it a registry or a folder.
func TestBackendOfTheImage(t *testing.T) {
	dir := temp(t)
	converted := testimage.Convert(t, testimage.BuildOCI(t, testimage.Tiny(t)), testimage.ConvertOptions{})
	elsewhere := testregistry.CountingProxy(t, testregistry.Start(t).Host())
	registry := testregistry.Start(t)
	for name, backend := range map[string]any{
		"registry": map[string]any{"type": "registry", "config": map[string]string{"scheme": "http", "host": elsewhere.Host(), "repo": "test/tiny"}},
		"localfs":  map[string]any{"type": "localfs", "config": map[string]string{"dir": converted.BlobDir}},
	} {
		t.Run(name, func(t *testing.T) {
			text, err := json.Marshal(map[string]any{"version": "v1", "backends": []any{backend}})
			require.NoError(t, err)
			reference := registry.Host() + "/test/" + name + ":v6"
			testimage.Push(t, reference, testimage.OnlyBootstrap(t, converted, text))
			image := opened(t, reference, nydusimage.Options{})
			options := nydusmount.Options{Program: testimage.Tools(t).Nydusd}
			_, err = nydusmount.Native(t.Context(), image)
			assert.ErrorIs(t, err, nydusmount.ErrBackend)
			assert.ErrorContains(t, err, "backend.json")
			_, err = nydusmount.Nydusd(t.Context(), image, options)
			assert.ErrorIs(t, err, nydusmount.ErrBackend)

			// With an empty folder of the user's nothing can be read.
			options.Backend = localfs(t, t.TempDir())
			mount, err := nydusmount.Nydusd(t.Context(), image, options)
			if err == nil {
				file, lookup := mount.Merged.Lookup(testimage.SecretPath)
				require.NoError(t, lookup)
				_, err = io.ReadAll(mount.Merged.Open(testimage.SecretPath, file))
				require.NoError(t, mount.Close())
			}
			assert.Error(t, err)
			assert.Zero(t, elsewhere.Requests())
			assertGone(t, dir)
		})
	}
}

// TestModelArtifact: nydusd 2.2.0 does not know blobs of external backends, and
// it is said that this is why it ends.
func TestModelArtifact(t *testing.T) {
	dir := temp(t)
	model := testimage.BuildModel(t)
	image := stored(t, model.Image)
	require.Len(t, image.Layers, 1, "the model's own layer")
	bootstrap, err := image.Bootstrap(t.Context())
	require.NoError(t, err)
	assert.NotEmpty(t, bootstrap.Backend)
	require.Len(t, bootstrap.Tree.Blobs(), 1)
	assert.Equal(t, image.Layers[0].BlobID(), bootstrap.Tree.Blobs()[0].ID)
	_, err = nydusmount.Native(t.Context(), image)
	assert.ErrorIs(t, err, nydusmount.ErrBackend)
	_, err = nydusmount.Nydusd(t.Context(), image, nydusmount.Options{Program: "/nowhere/nydusd"})
	assert.ErrorIs(t, err, nydusmount.ErrBackend)
	options := nydusmount.Options{Program: testimage.Tools(t).Nydusd, Backend: localfs(t, model.BlobDir)}
	_, err = nydusmount.Nydusd(t.Context(), image, options)
	require.ErrorIs(t, err, nydusmount.ErrNydusd)
	assert.ErrorContains(t, err, "invalid blob feature flags", "what nydusd 2.2.0 says")
	assert.ErrorContains(t, err, "the image has data in an external backend, which nydusd 2.2 does not read: a newer one may")
	assertGone(t, dir)

	newer := os.Getenv("NYDUSD_NEWER")
	if newer == "" {
		t.Skip("SKIPPED, NOTHING WAS READ: NYDUSD_NEWER names no nydusd that knows external backends")
	}
	options.Program = newer
	mount, err := nydusmount.Nydusd(t.Context(), image, options)
	require.NoError(t, err)
	defer mount.Close()
	assert.Equal(t, nydusmount.NoDigests, mount.Verified)
	for _, f := range testimage.ModelLayer() {
		inode, err := mount.Merged.Lookup(f.Path)
		require.NoError(t, err)
		got, err := io.ReadAll(mount.Merged.Open(f.Path, inode))
		require.NoError(t, err)
		assert.Equal(t, string(f.Data), string(got), f.Path)
	}
}
