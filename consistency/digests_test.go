package consistency

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
)

// pairWithoutChunkTable is an OCI image and a twin of it whose bootstrap has no table
// of its chunks.
func pairWithoutChunkTable(t *testing.T, o testimage.ConvertOptions, vouched bool) (dir string) {
	t.Helper()
	oci := testimage.BuildOCI(t, pairSpec())
	n := testimage.Convert(t, oci, o)
	dir = filepath.Join(t.TempDir(), "layout")
	testimage.WriteLayout(t, dir, map[string]any{"oci": oci, "nydus": testimage.AlterBootstrap(t, n, func(b []byte) []byte {
		b = testimage.WithoutChunkTable(b)
		if vouched {
			b = testimage.WithTOCDigests(t, b, n.BlobDir)
		}
		return b
	})})
	return dir
}

// TestWithoutChunkTable: digests for which the manifest does not vouch do not make a
// check equal, unless the blobs are read whole.
func TestWithoutChunkTable(t *testing.T) {
	for _, c := range []struct {
		name    string
		options testimage.ConvertOptions
		vouched bool
		depth   Depth
		notes   int
		err     error
	}{
		{name: "digests", depth: DepthDigest, notes: 1, err: nydusmount.ErrUnvouched},
		{name: "metadata only", depth: DepthNone, notes: 1},
		{name: "blobs read whole", depth: DepthFull, notes: 1},
		{name: "vouched for", vouched: true, depth: DepthDigest},
		{name: "zran", options: testimage.ConvertOptions{OCIRef: true}, depth: DepthDigest},
		{name: "zran, blobs read whole", options: testimage.ConvertOptions{OCIRef: true}, depth: DepthFull},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := pairWithoutChunkTable(t, c.options, c.vouched)
			report, err := Check(t.Context(), openPair(t, dir+":oci", dir+":nydus"), Options{Data: c.depth})
			require.NoError(t, err)
			for _, r := range report.Results {
				assert.Empty(t, r.Differences, r.Rule)
				if r.Rule == RuleBootstrap {
					assert.Len(t, r.Notes, c.notes)
				}
			}
			if c.err == nil {
				assert.NoError(t, report.Err())
				assert.Equal(t, Equal, report.Verdict())
				return
			}
			assert.ErrorIs(t, report.Err(), c.err)
			assert.Equal(t, Incomplete, report.Verdict())
		})
	}
}

// TestWithoutChunkTableDifferent: what differs is found, by digests that the blobs
// carry.
func TestWithoutChunkTableDifferent(t *testing.T) {
	dir := pairWithoutChunkTable(t, testimage.ConvertOptions{}, true)
	other := pairSpec()
	for i := range other.Layers[0] {
		if f := &other.Layers[0][i]; f.Path == "etc/motd" {
			f.Data = bytes.ToUpper(f.Data)
		}
	}
	otherDir := filepath.Join(t.TempDir(), "layout")
	testimage.WriteLayout(t, otherDir, map[string]any{"oci": testimage.BuildOCI(t, other)})
	var counts Counts
	result := checkFilesystem(t.Context(), openPair(t, otherDir+":oci", dir+":nydus"), Options{}, &counts)
	require.NoError(t, result.Err)
	assert.Equal(t, []string{"etc/motd content"}, fields(result))
	assert.Zero(t, counts.BlobBytes, "no data was read")
}

// TestTailOfAnotherBlob: a tail by which chunks were located and verified, though the
// manifest does not vouch for it, is compared with that of the blob when that is read.
func TestTailOfAnotherBlob(t *testing.T) {
	dir := pairWithoutChunkTable(t, testimage.ConvertOptions{}, false)
	images := openTarget(t, dir+":nydus")
	bootstrap, err := images.Target.Bootstrap(t.Context())
	require.NoError(t, err)
	tails := readTails(t.Context(), images.Target, bootstrap.Tree)
	images.layerTails = func() []layerTail { return tails }
	var counts Counts
	data := checkData(t.Context(), images, Options{}, &counts)
	require.NoError(t, data.Err)
	require.Empty(t, data.Differences)

	require.NotZero(t, tails[0].tail.Start)
	tails[0].tail.Sum[0] ^= 1 // other bytes were read before
	data = checkData(t.Context(), images, Options{}, &counts)
	require.NoError(t, data.Err)
	require.Len(t, data.Differences, 1)
	assert.Equal(t, "tail", data.Differences[0].Field)
}
