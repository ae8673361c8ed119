package nydusimage

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/blob"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
)

// pack writes a folder to an archive, as `tar -cf` does: with "./" before the
// names if dotted.
func pack(t *testing.T, dir string, dotted bool) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "image.tar")
	command := []string{"tar", "-cf", file, "-C", dir}
	if dotted {
		command = append(command, ".")
	} else {
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		for _, e := range entries {
			command = append(command, e.Name())
		}
	}
	said, err := exec.Command(command[0], command[1:]...).CombinedOutput()
	require.NoError(t, err, "%s", said)
	return file
}

// forms gives an OCI layout's folder in the forms in which it is read.
func forms(t *testing.T, dir string) map[string]string {
	t.Helper()
	return map[string]string{"folder": dir, "archive": pack(t, dir, false), "archive with dots": pack(t, dir, true)}
}

func TestLayout(t *testing.T) {
	dir := t.TempDir()
	nydus, oci := fixture(t), fixtureOCI(t, "amd64", "")
	testimage.WriteLayout(t, dir, map[string]any{
		"nydus": nydus, "oci": oci, "both": testimage.Index(t, testimage.ByArtifactType, testimage.Pair{OCI: oci, Nydus: nydus}),
	})
	digest := must(nydus.Digest())
	for form, path := range forms(t, dir) {
		t.Run(form, func(t *testing.T) {
			image := mustOpen(t, path+":nydus", Options{})
			assert.Equal(t, digest, image.Digest)
			assert.Nil(t, image.Reference)
			assert.Equal(t, digest, mustOpen(t, path+"@"+digest.String(), Options{}).Digest)
			assert.NotEqual(t, digest, mustOpen(t, path+":both", Options{}).Digest, "its config has another media type")

			err := mustFail(t, path, Options{}, ErrNotFound)
			assert.ErrorContains(t, err, "it holds 3 images, choose one by :tag or @digest (tags: both, nydus, oci)")
			err = mustFail(t, path+":missing", Options{}, ErrNotFound)
			assert.ErrorContains(t, err, "it holds no image :missing (tags: both, nydus, oci)")
			mustFail(t, path+"@sha256:"+strings.Repeat("0", 64), Options{}, ErrNotFound)
			err = mustFail(t, path+":oci", Options{}, nil)
			assert.True(t, hasError[*NotNydusError](err), "error %v", err)
		})
	}
	t.Run("by a relative path", func(t *testing.T) {
		t.Chdir(filepath.Dir(dir))
		mustOpen(t, "./"+filepath.Base(dir)+":nydus", Options{})
	})
	t.Run("of one image", func(t *testing.T) {
		single := filepath.Join(t.TempDir(), "with:colon")
		testimage.WriteLayout(t, single, map[string]any{"x": nydus})
		for form, path := range forms(t, single) {
			assert.Equal(t, digest, mustOpen(t, path, Options{}).Digest, form)
		}
	})
}

// TestLayoutPipe: who opened a named pipe would wait, whatever --timeout says.
func TestLayoutPipe(t *testing.T) {
	dir := t.TempDir()
	for _, pipe := range []string{filepath.Join(dir, "index.json"), filepath.Join(dir, "pipe")} {
		if output, err := exec.Command("mkfifo", pipe).CombinedOutput(); err != nil {
			t.Skipf("no named pipes here: %s", output)
		}
	}
	err := mustFail(t, dir, Options{}, ErrInvalid)
	assert.ErrorContains(t, err, "no regular file")
	err = mustFail(t, filepath.Join(dir, "pipe"), Options{}, ErrInvalid)
	assert.ErrorContains(t, err, "neither a folder nor a file")
}

func TestLayoutErrors(t *testing.T) {
	nydus := fixture(t)
	manifest := must(nydus.Manifest())
	blobFile := func(dir, hex string) string { return filepath.Join(dir, "blobs", "sha256", hex) }
	bootstrap := manifest.Layers[len(manifest.Layers)-1].Digest.Hex
	remove := func(hex string) func(*testing.T, string) {
		return func(t *testing.T, dir string) { require.NoError(t, os.Remove(blobFile(dir, hex))) }
	}
	cut := func(hex string) func(*testing.T, string) {
		return func(t *testing.T, dir string) { require.NoError(t, os.Truncate(blobFile(dir, hex), 100)) }
	}
	flip := func(hex string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			data, err := os.ReadFile(blobFile(dir, hex))
			require.NoError(t, err)
			data[len(data)/2] ^= 1
			require.NoError(t, os.WriteFile(blobFile(dir, hex), data, 0o644))
		}
	}
	config, top := manifest.Config.Digest.Hex, must(nydus.Digest()).Hex
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, dir string)
		err   error
		says  string
	}{
		{"no config", remove(config), fs.ErrNotExist, "read the config"},
		{"half a config", cut(config), blob.ErrIncomplete, "it has 100 bytes, the manifest says"},
		{"another config", flip(config), blob.ErrDigest, "hash to"},
		{"no manifest", remove(top), fs.ErrNotExist, "read manifest"},
		{"half a manifest", cut(top), blob.ErrIncomplete, "read manifest"},
		{"another manifest", flip(top), blob.ErrDigest, "read manifest"},
		{"no bootstrap layer", remove(bootstrap), blob.ErrIncomplete, "bootstrap layer sha256:"},
		{"half a bootstrap layer", cut(bootstrap), blob.ErrIncomplete, "bootstrap layer sha256:"},
		{"another bootstrap layer", flip(bootstrap), blob.ErrDigest, "bootstrap layer sha256:"},
		{"no index", func(t *testing.T, dir string) { require.NoError(t, os.Remove(filepath.Join(dir, "index.json"))) }, ErrInvalid, "open the OCI layout"},
		{"half an index", func(t *testing.T, dir string) {
			require.NoError(t, os.Truncate(filepath.Join(dir, "index.json"), 10))
		}, ErrInvalid, "index.json"},
		{"an index over the limit", func(t *testing.T, dir string) {
			require.NoError(t, os.Truncate(filepath.Join(dir, "index.json"), maxManifest+1))
		}, ErrInvalid, "over the limit"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			testimage.WriteLayout(t, dir, map[string]any{"nydus": nydus})
			c.spoil(t, dir)
			for form, path := range forms(t, dir) {
				err := mustFail(t, path, Options{}, c.err)
				assert.ErrorContains(t, err, c.says, form)
			}
		})
	}
	t.Run("data blobs", func(t *testing.T) {
		dir := t.TempDir()
		testimage.WriteLayout(t, dir, map[string]any{"nydus": nydus})
		remove(manifest.Layers[0].Digest.Hex)(t, dir)
		cut(manifest.Layers[1].Digest.Hex)(t, dir)
		for form, path := range forms(t, dir) {
			image, err := Open(t.Context(), path, Options{})
			require.NoError(t, err, "data is not needed to open an image")
			missing, truncated := image.Layers[0].Source, image.Layers[1].Source
			p := make([]byte, 10)
			assert.ErrorIs(t, missing.ReadRange(t.Context(), p, 0), blob.ErrIncomplete, form)
			assert.ErrorIs(t, missing.ReadRange(t.Context(), p, 0), fs.ErrNotExist, form)
			assert.ErrorIs(t, truncated.ReadRange(t.Context(), p, 0), blob.ErrIncomplete, form)
			assert.NoError(t, image.Close())
		}
	})
	t.Run("ranges", func(t *testing.T) {
		dir := t.TempDir()
		testimage.WriteLayout(t, dir, map[string]any{"nydus": nydus})
		for form, path := range forms(t, dir) {
			image, err := Open(t.Context(), path, Options{})
			require.NoError(t, err)
			source := image.Layers[0].Source
			for _, off := range []int64{-1, source.Size() - 9, source.Size(), 1 << 62} {
				assert.ErrorIs(t, source.ReadRange(t.Context(), make([]byte, 10), off), blob.ErrIncomplete, "%s: at %d", form, off)
			}
			assert.NoError(t, source.ReadRange(t.Context(), nil, source.Size()))
			canceled, cancel := context.WithCancel(t.Context())
			cancel()
			assert.ErrorIs(t, source.ReadRange(canceled, make([]byte, 10), 0), context.Canceled)
			assert.NoError(t, image.Close())
		}
	})
}

func TestNoLayout(t *testing.T) {
	dir := t.TempDir()
	layout := filepath.Join(dir, "layout")
	testimage.WriteLayout(t, layout, map[string]any{"nydus": fixture(t)})
	archive := pack(t, layout, false)

	compressed := filepath.Join(dir, "image.tar") // the name does not matter
	raw, err := os.ReadFile(archive)
	require.NoError(t, err)
	var gz strings.Builder
	w := gzip.NewWriter(&gz)
	_, err = w.Write(raw)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	write(t, compressed, gz.String(), 0o644)
	write(t, filepath.Join(dir, "zstd"), "\x28\xb5\x2f\xfd and so on", 0o644)
	write(t, filepath.Join(dir, "text"), strings.Repeat("no archive ", 100), 0o644)
	write(t, filepath.Join(dir, "empty"), "", 0o644)
	write(t, filepath.Join(dir, "cut"), string(raw[:len(raw)/2]), 0o644)
	require.NoError(t, os.Mkdir(filepath.Join(dir, "folder"), 0o755))
	for path, c := range map[string]struct {
		err  error
		says string
	}{
		"missing":       {ErrNotFound, "no such folder or file"},
		"missing:tag":   {ErrNotFound, "no such folder or file"},
		"folder":        {ErrInvalid, "open the OCI layout"},
		"image.tar":     {ErrInvalid, "compressed archives are not read, unpack it with gunzip"},
		"image.tar:tag": {ErrInvalid, "unpack it with gunzip"},
		"zstd":          {ErrInvalid, "unpack it with unzstd"},
		"text":          {ErrInvalid, "no tar archive of an OCI layout"},
		"empty":         {ErrInvalid, "index.json is not in the archive"},
		"cut":           {ErrInvalid, ""},
	} {
		err := mustFail(t, filepath.Join(dir, path), Options{}, c.err)
		assert.ErrorContains(t, err, c.says, path)
	}
}

// What an archive says of its files' sizes and kinds is not believed.
func TestArchiveLies(t *testing.T) {
	for name, header := range map[string]*tar.Header{
		"a size beyond the archive": {Name: "index.json", Size: 1 << 30, Mode: 0o644, Typeflag: tar.TypeReg},
		"a link":                    {Name: "index.json", Linkname: "/etc/passwd", Typeflag: tar.TypeSymlink},
		"a folder":                  {Name: "index.json/", Typeflag: tar.TypeDir},
		"another name":              {Name: "../index.json", Mode: 0o644, Typeflag: tar.TypeReg},
	} {
		file, err := os.Create(filepath.Join(t.TempDir(), "image.tar"))
		require.NoError(t, err)
		w := tar.NewWriter(file)
		require.NoError(t, w.WriteHeader(header))
		_, err = file.Write(make([]byte, 2048))
		require.NoError(t, err)
		require.NoError(t, file.Close())
		_, err = Open(t.Context(), file.Name(), Options{})
		assert.ErrorIs(t, err, ErrInvalid, name)
		assert.False(t, errors.Is(err, io.EOF), name)
	}
	hole := filepath.Join(t.TempDir(), "image.tar")
	write(t, hole, string(sparse("index.json", 100)), 0o644)
	err := mustFail(t, hole, Options{}, ErrInvalid)
	assert.ErrorContains(t, err, "index.json is not in the archive")
}
