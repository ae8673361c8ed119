package nydusmount

import (
	"bytes"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/blob"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// opened resolves an image of an OCI layout and reads the tails of its layers.
func opened(t *testing.T, path string) (*nydusimage.Image, *nydusimage.Bootstrap, []*Tail) {
	t.Helper()
	image, err := nydusimage.Open(t.Context(), path, nydusimage.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, image.Close()) })
	bootstrap, err := image.Bootstrap(t.Context())
	require.NoError(t, err)
	entries, err := blobEntries(image, bootstrap.Tree, allLayers(image))
	require.NoError(t, err)
	tails, err := readTails(t.Context(), image, entries, allLayers(image), false, image.Metadata)
	require.NoError(t, err)
	return image, bootstrap, tails
}

func zran(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	oci := testimage.BuildOCI(t, testimage.Tiny(t))
	testimage.WriteLayout(t, dir, map[string]any{"oci": oci, "nydus": testimage.Convert(t, oci, testimage.ConvertOptions{OCIRef: true})})
	return dir + ":nydus"
}

// TestTablesMustAgree alters the tables that the bootstrap layer carries: a
// runtime may read by these or by those in the blobs.
func TestTablesMustAgree(t *testing.T) {
	for name, path := range map[string]string{"zran": zran(t), "batch": testimage.NewerLayout(t) + ":batch"} {
		t.Run(name, func(t *testing.T) {
			image, bootstrap, tails := opened(t, path)
			for i, tail := range tails {
				file := bootstrap.Metas[image.Layers[i].Digest.Hex]
				require.NotNil(t, file)
				metas, err := tail.metas(file)
				require.NoError(t, err)
				assert.Len(t, metas, 2)
				metas, err = tail.metas(nil)
				require.NoError(t, err)
				assert.Len(t, metas, 1)
				// The last byte of the table is one of a context or of a dictionary.
				other := bytes.Clone(file)
				other[tail.Table.Meta.UncompressedSize-1] ^= 1
				_, err = tail.metas(other)
				assert.ErrorIs(t, err, rafs.ErrCorrupt)
				assert.ErrorContains(t, err, "another than that of the bootstrap layer")
				_, err = tail.metas(file[1:])
				assert.ErrorIs(t, err, rafs.ErrCorrupt)
			}
		})
	}
}

// TestTableOfEncryptedBlob: nydus-snapshotter puts the table into the bootstrap
// layer as it is encrypted, where it is of no use to anybody.
func TestTableOfEncryptedBlob(t *testing.T) {
	image, bootstrap, tails := opened(t, testimage.NewerLayout(t)+":encrypted")
	for i, tail := range tails {
		file := bootstrap.Metas[image.Layers[i].Digest.Hex]
		require.NotNil(t, file)
		metas, err := tail.metas(file)
		require.NoError(t, err)
		assert.Equal(t, []*blob.Meta{tail.Meta}, metas)
	}
}

// TestHiddenLayer reads the tail of a blob that the merged bootstrap does not
// know, since later layers hide all of its files: its own bootstrap says how its
// data is stored.
func TestHiddenLayer(t *testing.T) {
	for name, path := range map[string]string{"zran": zran(t), "batch": testimage.NewerLayout(t) + ":batch", "plain": testimage.NewerLayout(t) + ":crc32"} {
		t.Run(name, func(t *testing.T) {
			image, _, _ := opened(t, path)
			layer := &image.Layers[0]
			tail, err := ReadTail(t.Context(), image, layer, nil, false, nil)
			require.NoError(t, err)
			require.NotNil(t, tail.Tree)
			require.NotNil(t, tail.Table)
			assert.Equal(t, blob.NeedsMeta(*tail.Table), tail.Meta != nil, "the table is read where it is needed")
			tails := make([]*Tail, len(image.Layers))
			tails[0] = tail
			sources, err := dataSources(image, tails)
			require.NoError(t, err)
			require.Contains(t, sources, layer.BlobID())
			assert.Equal(t, name == "zran", layer.BlobID() != layer.Digest.Hex)
			if name == "zran" {
				assert.EqualValues(t, tail.Table.CompressedSize, sources[layer.BlobID()].Size())
			}
		})
	}
}

// TestReferenceMustAgree: manifest and bootstrap say the same of where the data
// of a layer lies.
func TestReferenceMustAgree(t *testing.T) {
	for name, alter := range map[string]func(*nydusimage.Layer, *rafs.Blob){
		"data in the layer by the manifest":  func(l *nydusimage.Layer, _ *rafs.Blob) { l.Ref = v1.Hash{} },
		"data in the layer by the bootstrap": func(_ *nydusimage.Layer, b *rafs.Blob) { b.Features &^= rafs.BlobSeparate },
		"another blob":                       func(_ *nydusimage.Layer, b *rafs.Blob) { b.MetaDigest[0] ^= 1 },
	} {
		image, _, tails := opened(t, zran(t))
		alter(&image.Layers[1], tails[1].Table)
		_, err := dataSources(image, tails)
		assert.ErrorIs(t, err, nydusimage.ErrInvalid, name)
		assert.ErrorContains(t, err, "layer 2 of 3", name)
	}
	image, _, tails := opened(t, zran(t))
	tails[1].Table.CompressedSize = 1 << 63
	_, err := dataSources(image, tails)
	assert.ErrorIs(t, err, rafs.ErrCorrupt)
}
