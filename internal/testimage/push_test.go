package testimage_test

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
)

// pull gets the image back and checks every digest and size that it names.
func pull(t *testing.T, ref string, options ...remote.Option) v1.Image {
	t.Helper()
	parsed, err := name.ParseReference(ref)
	require.NoError(t, err)
	img, err := remote.Image(parsed, options...)
	require.NoError(t, err)
	require.NoError(t, validate.Image(img, validate.Fast))
	return img
}

func TestPushedNydusManifest(t *testing.T) {
	registry := testregistry.Start(t, testregistry.WithHtpasswd("user", "pass"))
	login := remote.WithAuth(&authn.Basic{Username: "user", Password: "pass"})
	spec := testimage.Odd(t)
	oci := testimage.BuildOCI(t, spec)
	source := testimage.Push(t, registry.Host()+"/odd:oci", oci, login)
	require.NoError(t, validate.Image(pull(t, registry.Host()+"/odd:oci", login)))
	for _, version := range []string{"5", "6"} {
		t.Run("v"+version, func(t *testing.T) {
			nydus := testimage.Convert(t, oci, testimage.ConvertOptions{FSVersion: version, Referrer: true})
			ref := registry.Host() + "/odd:nydus-v" + version
			digest := testimage.Push(t, ref, nydus, login)
			img := pull(t, ref, login)
			got, err := img.Digest()
			require.NoError(t, err)
			assert.Equal(t, digest, got)

			manifest, err := img.Manifest()
			require.NoError(t, err)
			require.Len(t, manifest.Layers, len(spec.Layers)+1)
			assert.Equal(t, source.String(), manifest.Annotations[testimage.AnnotationSource])
			assert.Equal(t, source, manifest.Subject.Digest)
			config, err := img.ConfigFile()
			require.NoError(t, err)
			assert.Len(t, config.History, len(spec.Layers)+1)
			for i, l := range nydus.Blobs {
				desc := manifest.Layers[i]
				assert.EqualValues(t, testimage.MediaTypeNydusBlob, desc.MediaType)
				assert.Equal(t, map[string]string{testimage.AnnotationBlob: "true"}, desc.Annotations)
				assert.Equal(t, l.Digest, desc.Digest)
				assert.Equal(t, l.Digest, config.RootFS.DiffIDs[i])
			}
			bootstrap := manifest.Layers[len(spec.Layers)]
			assert.Equal(t, map[string]string{testimage.AnnotationBootstrap: "true",
				testimage.AnnotationFSVersion: version}, bootstrap.Annotations)
			assertBootstrapLayer(t, img, bootstrap.Digest, nydus)
		})
	}
}

// assertBootstrapLayer checks what the bootstrap layer holds: the bootstrap, and in v6 the blob.meta of each blob with
// data, which is all but the third of Odd.
func assertBootstrapLayer(t *testing.T, img v1.Image, digest v1.Hash, nydus *testimage.Nydus) {
	t.Helper()
	layer, err := img.LayerByDigest(digest)
	require.NoError(t, err)
	rc, err := layer.Uncompressed()
	require.NoError(t, err)
	defer rc.Close()
	want := []string{"image", "image/image.boot"}
	if nydus.Options.FSVersion == "6" {
		for _, i := range []int{0, 1, 3} {
			want = append(want, "image/"+nydus.Blobs[i].Digest.Hex+".blob.meta")
		}
	}
	var got []string
	boot, err := os.ReadFile(nydus.BootstrapPath)
	require.NoError(t, err)
	for tr := tar.NewReader(rc); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		data, err := io.ReadAll(tr)
		require.NoError(t, err)
		got = append(got, filepath.Clean(h.Name))
		switch {
		case h.Name == "image/image.boot":
			assert.True(t, bytes.Equal(boot, data), "the bootstrap in the layer is not the one on disk")
		case len(data) > 0:
			assert.Zero(t, len(data)%4096, "%s has %d bytes, expected whole blocks of 4096", h.Name, len(data))
			assert.Equal(t, []byte{0x0b, 0xb1, 0x0b, 0xb1}, data[len(data)-4096:][:4], "magic of the header of %s", h.Name)
		}
	}
	assert.Equal(t, want, got)
}

func TestIndex(t *testing.T) {
	registry := testregistry.Start(t)
	var pairs []testimage.Pair
	for _, arch := range []string{"amd64", "arm64"} {
		spec := testimage.SecretCmd(t)
		spec.Platform = v1.Platform{OS: "linux", Architecture: arch}
		oci := testimage.BuildOCI(t, spec)
		pairs = append(pairs, testimage.Pair{OCI: oci, Nydus: testimage.Convert(t, oci, testimage.ConvertOptions{})})
	}
	for form, tag := range map[testimage.IndexForm]string{
		testimage.ByArtifactType: "artifact-type", testimage.ByOSFeature: "os-feature",
	} {
		t.Run(tag, func(t *testing.T) {
			ref := registry.Host() + "/merged:" + tag
			digest := testimage.Push(t, ref, testimage.Index(t, form, pairs...))
			parsed, err := name.ParseReference(ref)
			require.NoError(t, err)
			index, err := remote.Index(parsed)
			require.NoError(t, err)
			got, err := index.Digest()
			require.NoError(t, err)
			assert.Equal(t, digest, got)
			manifest, err := index.IndexManifest()
			require.NoError(t, err)
			var platforms []string
			for i, desc := range manifest.Manifests {
				platforms = append(platforms, desc.Platform.String())
				nydus := i >= 3
				assert.Equal(t, nydus && form == testimage.ByArtifactType, desc.ArtifactType == testimage.ArtifactTypeNydus)
				assert.Equal(t, nydus && form == testimage.ByOSFeature, len(desc.Platform.OSFeatures) == 1)
				img, err := index.Image(desc.Digest)
				require.NoError(t, err)
				require.NoError(t, validate.Image(img, validate.Fast))
			}
			assert.Equal(t, []string{"linux/amd64", "unknown/unknown", "linux/arm64", "linux/amd64", "linux/arm64"}, platforms)
		})
	}
}

func TestWriteLayout(t *testing.T) {
	oci := testimage.BuildOCI(t, testimage.SecretCmd(t))
	nydus := testimage.Convert(t, oci, testimage.ConvertOptions{FSVersion: "5"})
	dir := t.TempDir()
	testimage.WriteLayout(t, dir, map[string]any{"oci": oci, "nydus": nydus,
		"both": testimage.Index(t, testimage.ByArtifactType, testimage.Pair{OCI: oci, Nydus: nydus})})
	index, err := layout.ImageIndexFromPath(dir)
	require.NoError(t, err)
	require.NoError(t, validate.Index(index, validate.Fast))
	manifest, err := index.IndexManifest()
	require.NoError(t, err)
	require.Len(t, manifest.Manifests, 3)
	assert.Equal(t, "both", manifest.Manifests[0].Annotations["org.opencontainers.image.ref.name"])
}
