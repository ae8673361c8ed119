package nydusmount_test

import (
	"slices"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
)

// table are the IDs of a merged bootstrap's blobs.
func table(m *nydusmount.Mount) []string {
	var ids []string
	for _, b := range m.Merged.Blobs() {
		ids = append(ids, b.ID)
	}
	return ids
}

func layerIDs(n *testimage.Nydus) []string {
	var ids []string
	for _, b := range n.Blobs {
		ids = append(ids, b.Digest.Hex)
	}
	return ids
}

// unequal is an image with a layer that brings no data.
func unequal() testimage.Spec {
	return testimage.Spec{Name: "unequal", Layers: []testimage.Layer{
		testimage.Layer{testimage.Text("etc/os-release", "NAME=test\n"), testimage.Text("usr/lib/a", "a\n")}.WithParents(),
		testimage.Layer{testimage.Text("opt/tool", "tool\n")}.WithParents(),
		testimage.Layer{testimage.Text("usr/src/app/main", "app\n")}.WithParents(),
		testimage.Layer{testimage.Dir("work")}, // without data
	}}
}

// TestOrdered: where the list of blobs was taken from the bootstrap, nothing tells
// which layer is which.
func TestOrdered(t *testing.T) {
	for _, version := range []string{"5", "6"} {
		n := testimage.Convert(t, testimage.BuildOCI(t, unequal()), testimage.ConvertOptions{FSVersion: version})
		today := openWrapped(t, n)
		require.Len(t, table(today), 3)
		old := testimage.OldOrder(t, n, table(today))
		builder := func(version string) func(m *v1.Manifest) {
			return func(m *v1.Manifest) { m.Annotations[testimage.AnnotationBuilder] = version }
		}
		two := testimage.Convert(t, testimage.BuildOCI(t, testimage.WhiteoutInBase(t)), testimage.ConvertOptions{FSVersion: version})
		one := testimage.Stack(t, testimage.BuildOCI(t, testimage.SecretCmd(t)), version)
		extra := map[string]func(m *v1.Manifest){
			"commit": func(m *v1.Manifest) { last(m).Annotations["containerd.io/snapshot/nydus-commit-blobs"] = "sha256:…" },
			"optimize": func(m *v1.Manifest) {
				last(m).Annotations["containerd.io/snapshot/nydus-separated-blob-with-prefetch-files"] = "…"
			},
		}
		for name, c := range map[string]struct {
			img  v1.Image
			want bool
		}{
			"today":                      {n, true},
			"before v2.4.1":              {old, false},
			"before v2.4.1, one layer":   {one, true},
			"before v2.4.1, in order":    {testimage.OldOrder(t, two, layerIDs(two)), false}, // as it may be
			"v2.4.1":                     {testimage.Wrap(t, two, testimage.Wrapping{Edit: builder("v2.4.1")}), true},
			"v2.4.0":                     {testimage.Wrap(t, two, testimage.Wrapping{Edit: builder("v2.4.0")}), false},
			"another list":               {testimage.Wrap(t, n, testimage.Wrapping{}), true},
			"another list of commit":     {testimage.Wrap(t, n, testimage.Wrapping{Edit: extra["commit"]}), false},
			"another list of optimize":   {testimage.Wrap(t, n, testimage.Wrapping{Edit: extra["optimize"]}), false},
			"blob.meta files for v6":     {testimage.Wrap(t, two, testimage.Wrapping{Metas: version == "6"}), version == "6"},
			"a claim that is no version": {testimage.Wrap(t, two, testimage.Wrapping{Edit: builder("v9")}), true},
			"no version at all":          {testimage.Wrap(t, two, testimage.Wrapping{Edit: builder("latest")}), false},
		} {
			t.Run("v"+version+"/"+name, func(t *testing.T) {
				mount := openWrapped(t, c.img)
				assert.Equal(t, c.want, mount.Ordered)
				commands := mount.CreatedBy()
				require.Len(t, commands, len(mount.Layers))
				if !mount.Ordered {
					assert.Equal(t, make([]string, len(mount.Layers)), commands)
				}
			})
		}
		assert.Equal(t, "COPY layer1 / # buildkit", today.CreatedBy()[0])
	}
}

func last(m *v1.Manifest) *v1.Descriptor { return &m.Layers[len(m.Layers)-1] }

// TestChunkDict reads an image whose data lies in the blobs of another in part, and
// finds that these are none of its layers.
func TestChunkDict(t *testing.T) {
	spec := testimage.Odd(t)
	for _, version := range []string{"5", "6"} {
		dictSpec := testimage.Spec{Name: "dict", Layers: []testimage.Layer{spec.Layers[0], {testimage.Text("only-there", "x\n")}}}
		dict := testimage.Convert(t, testimage.BuildOCI(t, dictSpec), testimage.ConvertOptions{FSVersion: version})
		n := testimage.ConvertWithDict(t, testimage.BuildOCI(t, spec), dict)
		mount := openWrapped(t, n)
		require.Contains(t, table(mount), dict.Blobs[0].Digest.Hex, "no data was shared")
		require.Len(t, mount.Layers, len(spec.Layers)+1)
		assertSameTree(t, n.BootstrapPath, n.BlobDir, mount)

		layers, err := mount.OfLayers(t.Context())
		require.NoError(t, err)
		require.Len(t, layers.ImageLayers(), len(spec.Layers))
		assert.Len(t, layers.Layers, len(spec.Layers))
		assert.False(t, slices.Contains(ids(layers), dict.Blobs[0].Digest.Hex))
		assert.True(t, layers.Ordered)
		assert.Equal(t, "COPY layer1 / # buildkit", layers.CreatedBy()[0])
		overlay, err := layers.Overlay(t.Context())
		require.NoError(t, err)
		layer, ok := overlay.Layer("chunks/noise")
		assert.True(t, ok)
		assert.Zero(t, layer, "of the layer that brought it, not that of the blob")

		same, err := layers.OfLayers(t.Context())
		require.NoError(t, err)
		assert.Same(t, layers, same)
	}
}

func ids(m *nydusmount.Mount) []string {
	var ids []string
	for _, l := range m.ImageLayers() {
		ids = append(ids, l.BlobID())
	}
	return ids
}
