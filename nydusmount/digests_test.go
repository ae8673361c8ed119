package nydusmount_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/blob"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/consistency"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// resolve resolves an image of an OCI layout.
func resolve(t *testing.T, path string) *nydusimage.Image {
	t.Helper()
	image, err := nydusimage.Open(t.Context(), path, nydusimage.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, image.Close()) })
	return image
}

// layoutOf writes an image, and with it what it refers to, to an OCI layout.
func layoutOf(t *testing.T, img v1.Image, others ...v1.Image) string {
	t.Helper()
	dir := t.TempDir()
	things := map[string]any{"nydus": img}
	for _, other := range others {
		things["other"] = other
	}
	testimage.WriteLayout(t, dir, things)
	return dir + ":nydus"
}

// TestWithoutChunkTable reads images whose bootstrap has no table of their chunks, as
// nydusd does: an image of the real builder, altered. The digests are those that the
// blobs carry. Where nothing vouches for these, the user must allow it.
func TestWithoutChunkTable(t *testing.T) {
	for name, c := range map[string]struct {
		spec    testimage.Spec
		options testimage.ConvertOptions
	}{
		"odd":                   {testimage.Odd(t), testimage.ConvertOptions{}},
		"odd in chunks of 4096": {testimage.Odd(t), testimage.ConvertOptions{ChunkSize: 0x1000, Compressor: "lz4_block", Digester: "sha256"}},
		"tiny, uncompressed":    {testimage.Tiny(t), testimage.ConvertOptions{Compressor: "none"}},
	} {
		t.Run(name, func(t *testing.T) {
			n := testimage.Convert(t, testimage.BuildOCI(t, c.spec), c.options)
			bootstrap, err := os.ReadFile(n.BootstrapPath)
			require.NoError(t, err)
			altered := testimage.WithoutChunkTable(bootstrap)
			vouched := testimage.WithTOCDigests(t, altered, n.BlobDir)
			as := func(data []byte) v1.Image {
				return testimage.AlterBootstrap(t, n, func([]byte) []byte { return data })
			}

			path := layoutOf(t, as(altered))
			_, err = nydusmount.Native(t.Context(), resolve(t, path))
			assert.ErrorIs(t, err, nydusmount.ErrUnvouched)
			assert.ErrorContains(t, err, "the bootstrap has no digests of the chunks")

			mount, err := nydusmount.Native(t.Context(), resolve(t, path), nydusmount.AllowUnverified(true))
			require.NoError(t, err)
			assert.Equal(t, nydusmount.Unvouched, mount.Verified)
			require.Len(t, mount.Warnings, 1)
			assert.Contains(t, mount.Warnings[0], "the manifest does not vouch")
			assertShows(t, testimage.Mount(t, keep(t, altered), n.BlobDir), mount)
			assertLayersRead(t, mount)

			mount = openLayout(t, layoutOf(t, as(vouched)))
			assert.Equal(t, nydusmount.Verified, mount.Verified)
			assert.Empty(t, mount.Warnings)
			assertShows(t, testimage.Mount(t, keep(t, vouched), n.BlobDir), mount)
		})
	}
}

// TestWithoutChunkTableOfOtherForms: as above, where chunks share what they are
// stored in or are encrypted. Of zran, the manifest names the digest of the blob that
// carries the digests, and that is read whole.
func TestWithoutChunkTableOfOtherForms(t *testing.T) {
	oci := testimage.BuildOCI(t, testimage.Tiny(t))
	type form struct {
		img, oci v1.Image
		verified nydusmount.Verification
	}
	forms := map[string]form{
		"zran": {testimage.Convert(t, oci, testimage.ConvertOptions{OCIRef: true}), oci, nydusmount.Verified},
	}
	for _, name := range testimage.NewerForms() {
		forms[name] = form{testimage.Newer(t, name), testimage.Newer(t, "oci"), nydusmount.Unvouched}
	}
	for name, f := range forms {
		t.Run(name, func(t *testing.T) {
			img := testimage.AlterBootstrap(t, f.img, testimage.WithoutChunkTable)
			mount, err := nydusmount.Native(t.Context(), resolve(t, layoutOf(t, img, f.oci)), nydusmount.AllowUnverified(true))
			require.NoError(t, err)
			assert.Equal(t, f.verified, mount.Verified)
			assertShows(t, shown(t, f.oci), mount)
			assertLayersRead(t, mount)
		})
	}
}

// TestLayerWithoutChunkTable completes the layers' own trees, too.
func TestLayerWithoutChunkTable(t *testing.T) {
	n := testimage.Convert(t, testimage.BuildOCI(t, testimage.Odd(t)), testimage.ConvertOptions{})
	image := resolve(t, layoutOf(t, n))
	mount, err := nydusmount.Native(t.Context(), image)
	require.NoError(t, err)
	for i := range image.Layers {
		own, err := os.ReadFile(n.Blobs[i].BootstrapPath)
		require.NoError(t, err)
		bare := testimage.WithoutChunkTable(own)
		tree, err := rafs.Open(bytes.NewReader(bare), int64(len(bare)))
		require.NoError(t, err)
		if !tree.LacksChunkTable() {
			continue // a layer without data
		}
		tails := make([]*nydusmount.Tail, len(image.Layers))
		tails[i], err = nydusmount.ReadTail(t.Context(), image, &image.Layers[i], nil, true, nil)
		require.NoError(t, err)
		if tails[i].Meta == nil { // not read where nothing of the image uses it
			tails[i].Meta, err = blob.ReadMeta(t.Context(), image.Layers[i].Source, *tails[i].Table)
			require.NoError(t, err)
		}
		completed := nydusmount.WithChunks(image, tree, tails, tails[i])
		differences, err := consistency.Compare(consistency.Tree(mount.Layers[i].Tree, mount.Layers[i].Data),
			consistency.Tree(completed, mount.Layers[i].Data))
		require.NoError(t, err)
		assert.Empty(t, differences)
	}
}

// TestChunkTableInDoubt: digests of chunks that are vouched for are those that count,
// and what there are none of is refused, whatever the user allows.
func TestChunkTableInDoubt(t *testing.T) {
	spec := testimage.Tiny(t)
	n := testimage.Convert(t, testimage.BuildOCI(t, spec), testimage.ConvertOptions{})
	stacked := testimage.Stack(t, testimage.BuildOCI(t, spec), "6")
	const blobTable = 1152 + 8
	for name, c := range map[string]struct {
		img  v1.Image
		err  error
		text string
	}{
		"another table of contents": {testimage.AlterBootstrap(t, n, func(b []byte) []byte {
			b = testimage.WithTOCDigests(t, testimage.WithoutChunkTable(b), n.BlobDir)
			b[binary.LittleEndian.Uint64(b[blobTable:])+136] ^= 1
			return b
		}), blob.ErrDigest, "the table of contents hashes to"},
		"no digests in the blobs": {testimage.AlterBootstrap(t, testimage.Wrap(t, stacked, testimage.Wrapping{}), testimage.WithoutChunkTable),
			nydusmount.ErrNoDigests, "has no digests of its chunks (blob.digest)"},
		"a chunk moved": {testimage.AlterBootstrap(t, n, func(b []byte) []byte {
			return moveChunk(t, testimage.WithoutChunkTable(b), "usr/bin/hostname")
		}), rafs.ErrCorrupt, "blob.meta says"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := nydusmount.Native(t.Context(), resolve(t, layoutOf(t, c.img)), nydusmount.AllowUnverified(true))
			assert.ErrorIs(t, err, c.err)
			assert.ErrorContains(t, err, c.text)
		})
	}
}

// moveChunk lets a file of a v6 bootstrap name another place of its first chunk in the
// decompressed blob.
func moveChunk(t *testing.T, bootstrap []byte, name string) []byte {
	t.Helper()
	tree, err := rafs.Open(bytes.NewReader(bootstrap), int64(len(bootstrap)))
	require.NoError(t, err)
	inode, err := tree.Lookup(name)
	require.NoError(t, err)
	chunks, err := inode.Chunks()
	require.NoError(t, err)
	c := chunks[0]
	var address [8]byte
	binary.LittleEndian.PutUint16(address[:], uint16(c.Index))
	binary.LittleEndian.PutUint16(address[2:], uint16(c.Index>>16<<8)|uint16(c.Blob+1))
	binary.LittleEndian.PutUint32(address[4:], uint32(c.UncompressedOffset>>12))
	require.Equal(t, 1, bytes.Count(bootstrap, address[:]))
	bootstrap[bytes.Index(bootstrap, address[:])+4]++
	return bootstrap
}
