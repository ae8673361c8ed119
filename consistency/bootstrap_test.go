package consistency

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// soundSpecs are images of which converters make Nydus images without a fault.
func soundSpecs(t testing.TB) []testimage.Spec {
	return []testimage.Spec{
		testimage.Odd(t), testimage.Tiny(t), testimage.WhiteoutInBase(t), pairSpec(), plain(),
		manyLayers(t),
		{Name: "one-empty-layer", Layers: []testimage.Layer{{}}},
	}
}

// openTarget opens a Nydus image alone.
func openTarget(t testing.TB, path string) Images {
	t.Helper()
	image, err := nydusimage.Open(t.Context(), path, nydusimage.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, image.Close()) })
	return Images{Target: image}
}

// runBlobRules runs the rules that read the metadata and the data of a Nydus
// image.
func runBlobRules(t testing.TB, images Images) (bootstrap, data Result, counts Counts) {
	t.Helper()
	bootstrap = checkBootstrap(t.Context(), images, Options{}, &counts)
	bootstrap.settle(nil)
	data = checkData(t.Context(), images, Options{}, &counts)
	data.settle(nil)
	return bootstrap, data, counts
}

// requireSound fails if either rule finds anything, and where not every byte was
// read.
func requireSound(t testing.TB, images Images) {
	t.Helper()
	bootstrap, data, counts := runBlobRules(t, images)
	require.NoError(t, bootstrap.Err)
	require.NoError(t, data.Err)
	assert.Empty(t, bootstrap.Differences)
	assert.Empty(t, bootstrap.Notes)
	assert.Empty(t, data.Differences)
	var size int64
	digests := make(map[string]bool)
	for _, layer := range images.Target.Layers {
		if !digests[layer.Digest.Hex] {
			size += layer.Size
		}
		digests[layer.Digest.Hex] = true
	}
	assert.GreaterOrEqual(t, counts.BlobBytes, size)
	assert.Zero(t, counts.BlobsUnread)
}

// TestSoundImages: no rule finds anything in what converters make.
func TestSoundImages(t *testing.T) {
	for _, spec := range soundSpecs(t) {
		oci := testimage.BuildOCI(t, spec)
		for _, form := range append(forms(), testimage.ConvertOptions{OCIRef: true}) {
			name := spec.Name + "," + formName(form)
			if form.OCIRef {
				name = spec.Name + ",zran"
			}
			t.Run(name, func(t *testing.T) {
				dir := t.TempDir()
				testimage.WriteLayout(t, dir, map[string]any{"oci": oci, "nydus": testimage.Convert(t, oci, form)})
				requireSound(t, openTarget(t, dir+":nydus"))
			})
		}
	}
	layout := testimage.NewerLayout(t)
	for _, form := range testimage.NewerForms() {
		t.Run(form, func(t *testing.T) {
			bootstrap, data, _ := runBlobRules(t, openTarget(t, layout+":"+form))
			require.NoError(t, bootstrap.Err)
			require.NoError(t, data.Err)
			assert.Empty(t, bootstrap.Differences)
			assert.Empty(t, data.Differences)
		})
	}
}

// TestFaultsOfTheConverter: what nydus-image 2.2.0 makes of these layers
// contradicts itself.
func TestFaultsOfTheConverter(t *testing.T) {
	unlike := testimage.Spec{Name: "linked-unlike", Layers: []testimage.Layer{{
		testimage.Text("file", "content\n"), testimage.Hard("link", "file").WithMode(0o4755).WithOwner(3, 4).WithTime(time.Unix(1000, 0)),
	}}}
	for _, test := range []struct {
		name    string
		spec    testimage.Spec
		version string
		want    string
	}{
		{"a hard link's entry says other things than the file's: v5 keeps both", unlike, "5", "link hard link"},
		{"a hard link to a FIFO is an empty file, which the directory calls a FIFO", testimage.Lossy(t), "6", "fifo layers[0]: type in the directory"},
		{"a path that a layer has twice takes another file's number", replaced(t), "5", "file-then-dir/file hard link"},
		{"a whiteout of a name that is no UTF-8 deletes nothing", names(t), "6", "\xff\xfe not UTF-8 layers"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			testimage.WriteLayout(t, dir, map[string]any{
				"nydus": testimage.Convert(t, testimage.BuildOCI(t, test.spec), testimage.ConvertOptions{FSVersion: test.version}),
			})
			bootstrap, data, _ := runBlobRules(t, openTarget(t, dir+":nydus"))
			require.NoError(t, bootstrap.Err)
			assert.Contains(t, fields(bootstrap), test.want)
			require.NoError(t, data.Err)
			assert.Empty(t, data.Differences)
		})
	}
}

// TestBootstrapUnopenable: what does not open because of its bytes is a
// difference, what is not supported is no answer.
func TestBootstrapUnopenable(t *testing.T) {
	p := newPair(t, testimage.ConvertOptions{})
	p.alterBootstrap(func(b []byte) { clear(b[:4096]) })
	r, _, _ := runBlobRules(t, openTarget(t, p.dir+":nydus"))
	require.NoError(t, r.Err)
	require.Equal(t, []string{"bootstrap bootstrap layer"}, fields(r))
	assert.Contains(t, r.Differences[0].Got, "no superblock")

	p = newPair(t, testimage.ConvertOptions{})
	p.alterBootstrap(func(b []byte) { b[1024+12] = 9 })
	r, _, _ = runBlobRules(t, openTarget(t, p.dir+":nydus"))
	require.ErrorIs(t, r.Err, rafs.ErrUnsupported)
	assert.Equal(t, Incomplete, r.Verdict())
}

// TestBootstrapLayerMissing: a bootstrap that is not there is no difference.
func TestBootstrapLayerMissing(t *testing.T) {
	p := newPair(t, testimage.ConvertOptions{})
	layer := openTarget(t, p.dir+":nydus").Target.BootstrapLayer.Digest
	require.NoError(t, os.Remove(p.blob(layer.String())))
	r, _, _ := runBlobRules(t, openTarget(t, p.dir+":nydus"))
	require.NoError(t, r.Err)
	assert.Equal(t, []string{"bootstrap bootstrap layer"}, fields(r), "the manifest names it")
}

// TestMetasOfReferredData: where the data lies in an OCI layer, the table may lie under
// that one's digest, too, and nydusd takes it from there. One for a blob that is none of
// the image's is told of.
func TestMetasOfReferredData(t *testing.T) {
	p := newPair(t, testimage.ConvertOptions{OCIRef: true})
	layer := openTarget(t, p.dir+":nydus").Target.Layers[0]
	require.NotEqual(t, layer.Digest.Hex, layer.BlobID())
	p.alterBootstrapLayer(func(name string, content []byte) []layerFile {
		if !strings.HasSuffix(name, layer.Digest.Hex+".blob.meta") {
			return nil
		}
		other := bytes.Clone(content)
		other[8]++ // the offset of the first chunk
		return []layerFile{
			{"image/" + layer.BlobID() + ".blob.meta", other},
			{"image/" + strings.Repeat("0", 64) + ".blob.meta", content},
		}
	})
	r, _, _ := runBlobRules(t, openTarget(t, p.dir+":nydus"))
	require.NoError(t, r.Err)
	assert.Contains(t, fmt.Sprint(fields(r)), "chunk 0 in blob.meta of the bootstrap layer")
	assert.Contains(t, fmt.Sprint(r.Notes), "a blob.meta for 0000")
	_, err := nydusmount.Native(t.Context(), openTarget(t, p.dir+":nydus").Target)
	assert.ErrorIs(t, err, rafs.ErrCorrupt, "a scan refuses it, too")
}

// TestMetasCompared alters the table by which nydusd finds chunks.
func TestMetasCompared(t *testing.T) {
	for _, test := range []struct {
		name string
		edit func(meta []byte)
		want string
	}{
		{"offset", func(b []byte) { b[8]++ }, "chunk 0 in blob.meta of the bootstrap layer"},
		{"size", func(b []byte) { b[8+7]++ }, "chunk 0 in blob.meta of the bootstrap layer"},
		{"place in the decompressed blob", func(b []byte) { b[2]++ }, "chunk 0 in blob.meta of the bootstrap layer"},
		{"magic number", func(b []byte) { clear(b[len(b)-4096:]) }, "blob.meta of the bootstrap layer"},
		{"number of chunks", func(b []byte) { b[len(b)-4096+12]++ }, "blob.meta of the bootstrap layer"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPair(t, testimage.ConvertOptions{})
			first := openTarget(t, p.dir+":nydus").Target.Layers[0].Digest.Hex
			p.alterBootstrapLayer(func(name string, content []byte) []layerFile {
				if strings.HasSuffix(name, first+".blob.meta") {
					test.edit(content)
				}
				return nil
			})
			r, data, _ := runBlobRules(t, openTarget(t, p.dir+":nydus"))
			require.NoError(t, r.Err)
			require.NotEmpty(t, r.Differences)
			assert.Empty(t, data.Differences, "the blob is as it was")
			_, err := nydusmount.Native(t.Context(), openTarget(t, p.dir+":nydus").Target)
			assert.ErrorIs(t, err, rafs.ErrCorrupt, "a scan refuses it, too")
			var named []string
			for _, d := range r.Differences {
				assert.NotEqual(t, d.Want, d.Got)
				assert.Contains(t, d.Field, test.want)
				named = append(named, d.Path)
			}
			if strings.HasPrefix(test.want, "chunk") {
				assert.Contains(t, named, "etc/motd", "the file that a container would read wrongly")
			}
		})
	}
}

// TestChunkTableOfOtherData gives a file another file's place in the blob. The
// tables of the blob show it, and the digests there.
func TestChunkTableOfOtherData(t *testing.T) {
	p := newPair(t, testimage.ConvertOptions{})
	p.alterBootstrap(func(b []byte) {
		at := binary.LittleEndian.Uint64(b[1152+24:]) // the chunk table: a record each for two files
		record := b[at:][:80]
		for k := range 32 {
			record[k] ^= 0xff
		}
	})
	r, data, _ := runBlobRules(t, openTarget(t, p.dir+":nydus"))
	require.NoError(t, r.Err)
	found := strings.Join(fields(r), "\n")
	assert.Regexp(t, `etc/(motd|issue) chunk 0 in blob.digest`, found)
	assert.Regexp(t, `etc/(motd|issue) layers`, found, "the layer's tree has another digest")
	require.NoError(t, data.Err)
	require.Len(t, data.Differences, 1)
	assert.Regexp(t, `^blob sha256:[0-9a-f]{64} chunk 0 content$`, fields(data)[0])
	assert.Regexp(t, `in "etc/(motd|issue)"`, data.Differences[0].Want)
	assert.Contains(t, data.Differences[0].Got, "hash to")
}

// TestLayersContradict: whoever can alter the bootstrap layer does not alter the
// trees in the blobs.
func TestLayersContradict(t *testing.T) {
	for _, version := range []string{"5", "6"} {
		t.Run("v"+version, func(t *testing.T) {
			p := newPair(t, testimage.ConvertOptions{FSVersion: version})
			p.alterBootstrap(func(b []byte) {
				tree, err := rafs.Open(bytes.NewReader(b), int64(len(b)))
				require.NoError(t, err)
				for _, path := range []string{"etc/motd", "etc/issue"} {
					i, err := tree.Lookup(path)
					require.NoError(t, err)
					require.NotZero(t, i.MTime)
				}
				// All files and directories have one time: the first that is met becomes
				// another, of whichever inode.
				old := make([]byte, 8)
				motd, err := tree.Lookup("etc/motd")
				require.NoError(t, err)
				binary.LittleEndian.PutUint64(old, uint64(motd.MTime))
				at := bytes.LastIndex(b, old)
				require.Positive(t, at)
				b[at]++
			})
			r, _, _ := runBlobRules(t, openTarget(t, p.dir+":nydus"))
			require.NoError(t, r.Err)
			require.Len(t, r.Differences, 1)
			assert.Regexp(t, `layers\[\d\]: mtime$`, r.Differences[0].Field)
		})
	}
}

// TestWrongBlobInTable is the fault of nydus-image create --parent-bootstrap: the
// chunks of the new blob are said to be in the first. nydusd serves other files'
// bytes.
func TestWrongBlobInTable(t *testing.T) {
	boot, err := os.ReadFile(filepath.Join("..", "rafs", "testdata", "nmaster-parent", "bootstrap"))
	require.NoError(t, err)
	tree, err := rafs.Open(bytes.NewReader(boot), int64(len(boot)))
	require.NoError(t, err)
	c := &bootstrapCheck{}
	assert.False(t, c.checkTree(t.Context(), "", tree))
	assert.NotEmpty(t, c.result.Differences)
}

// TestBlobThatHoldsTheMergedBootstrap: the flag of a blob that holds the bootstrap
// belongs into the layers' trees alone. Of the merged one, which lies in no blob, nydusd
// would take the blob's ID from the name of the bootstrap's file, and read nothing.
func TestBlobThatHoldsTheMergedBootstrap(t *testing.T) {
	for _, version := range []string{"5", "6"} {
		t.Run("v"+version, func(t *testing.T) {
			p := newPair(t, testimage.ConvertOptions{FSVersion: version})
			p.alterBootstrap(func(b []byte) {
				features := binary.LittleEndian.Uint64(b[1152+8:]) + 84 // of the first blob in the blob table
				if version == "5" {
					features = binary.LittleEndian.Uint64(b[72:]) + 4 // in the extended one
				}
				b[features] |= byte(rafs.BlobInlinedMeta)
			})
			images := openTarget(t, p.dir+":nydus")
			bootstrap, err := images.Target.Bootstrap(t.Context())
			require.NoError(t, err)
			require.NotZero(t, bootstrap.Tree.Blobs()[0].Features&rafs.BlobInlinedMeta)
			r, data, _ := runBlobRules(t, images)
			require.NoError(t, r.Err)
			require.Equal(t, []string{"bootstrap blobs[0]"}, fields(r))
			assert.Equal(t, "the one that holds this bootstrap", r.Differences[0].Got)
			require.NoError(t, data.Err)
			assert.Empty(t, data.Differences, "the data is that of the blob which it names")
		})
	}
}

// TestMendedFaults: the link count of a directory in a layer's tree is a note, in
// the merged tree a difference, and that of a file always is one.
func TestMendedFaults(t *testing.T) {
	original, err := os.ReadFile(filepath.Join("..", "rafs", "testdata", "tree-v6", "bootstrap"))
	require.NoError(t, err)
	tree, err := rafs.Open(bytes.NewReader(original), int64(len(original)))
	require.NoError(t, err)
	damaged := func(path string) *rafs.Tree {
		i, err := tree.Lookup(path)
		require.NoError(t, err)
		b := bytes.Clone(original)
		b[uint64(binary.LittleEndian.Uint32(b[1024+40:]))*4096+i.Number*32+44]++ // i_nlink
		again, err := rafs.Open(bytes.NewReader(b), int64(len(b)))
		require.NoError(t, err)
		return again
	}
	c := &bootstrapCheck{}
	assert.True(t, c.checkTree(t.Context(), "layers[0]: ", damaged("data")))
	assert.Empty(t, c.result.Differences)
	assert.Contains(t, notes(c.result), `layers[0]: "data": links is 3, want 2`)
	assert.False(t, c.checkTree(t.Context(), "", damaged("data")))
	assert.Equal(t, []string{"data links"}, fields(c.result))
	assert.False(t, c.checkTree(t.Context(), "layers[0]: ", damaged("data/one")))
	assert.Equal(t, []string{"data links", "data/one layers[0]: links"}, fields(c.result))
}

// TestDifferencesAreBounded: what an image can have of faults is not kept without
// end.
func TestDifferencesAreBounded(t *testing.T) {
	c := &bootstrapCheck{}
	for range maxBootstrapDifferences + 5 {
		c.differ("path", "field", "a", "b")
	}
	assert.Len(t, c.result.Differences, maxBootstrapDifferences)
	assert.Equal(t, 5, c.result.More)
}

// TestIgnoredDifferencesTakeNoPlace: however many differences are to be ignored, one that
// is not makes the images different.
func TestIgnoredDifferencesTakeNoPlace(t *testing.T) {
	ignores := []Ignore{{Path: "a/**"}}
	c := &bootstrapCheck{ignores: ignores}
	for range maxBootstrapDifferences + 5 {
		c.differ("a/path", "field", "a", "b")
	}
	c.differ("b", "field", "a", "b")
	r := c.result
	r.settle(ignores)
	assert.Equal(t, Different, r.Verdict())
	assert.Equal(t, []string{"b field"}, fields(r))
	assert.Equal(t, maxBootstrapDifferences+5, r.Ignored)
	assert.Equal(t, Different, (&Result{More: 1}).Verdict())
}
