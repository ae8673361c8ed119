package consistency

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/mutate"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// tarOf is an archive of entries. Regular files have the content "x".
func tarOf(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for _, h := range headers {
		if h.Typeflag == tar.TypeReg {
			h.Size = 1
		}
		require.NoError(t, w.WriteHeader(&h))
		if h.Size == 1 {
			_, err := w.Write([]byte("x"))
			require.NoError(t, err)
		}
	}
	require.NoError(t, w.Close())
	return archive.Bytes()
}

// applied applies archives, or fails.
func applied(t testing.TB, archives ...[]byte) (map[string]Node, error) {
	t.Helper()
	tree, err := apply(t, newBudget(rafs.DefaultMetadata), archives...)
	if err != nil {
		return nil, err
	}
	nodes := make(map[string]Node)
	require.NoError(t, tree.Walk(func(n Node) error {
		nodes[n.Path] = n
		return nil
	}))
	return nodes, nil
}

func apply(t testing.TB, b *budget, archives ...[]byte) (*ociTree, error) {
	return applyPlanned(t, everything(), b, archives...)
}

// applyPlanned hashes what a plan asks for.
func applyPlanned(t testing.TB, p *plan, b *budget, archives ...[]byte) (*ociTree, error) {
	tree := &ociTree{root: impliedDirectory()}
	for _, archive := range archives {
		l := newLayer(p, b)
		if err := l.read(t.Context(), bytes.NewReader(archive)); err != nil {
			return nil, err
		}
		if err := tree.apply(l); err != nil {
			return nil, err
		}
	}
	tree.number()
	return tree, nil
}

func file(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644} }
func directory(name string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755}
}
func symlink(name, target string) tar.Header {
	return tar.Header{Name: name, Linkname: target, Typeflag: tar.TypeSymlink, Mode: 0o777}
}
func link(name, target string) tar.Header {
	return tar.Header{Name: name, Linkname: target, Typeflag: tar.TypeLink, Mode: 0o644}
}

// TestRefusesEntries has archives that cannot be applied: none of them may end
// in a tree.
func TestRefusesEntries(t *testing.T) {
	for name, test := range map[string]struct {
		entries []tar.Header
		is      error
		says    string
	}{
		"dots":                    {[]tar.Header{file("a/../b")}, rafs.ErrUnsupported, `a path with ".."`},
		"dots first":              {[]tar.Header{file("../b")}, rafs.ErrUnsupported, `a path with ".."`},
		"link to dots":            {[]tar.Header{file("b"), link("c", "a/../b")}, rafs.ErrUnsupported, `a path with ".."`},
		"long name":               {[]tar.Header{file(strings.Repeat("n", 256))}, rafs.ErrUnsupported, "a name of 256 bytes"},
		"long path":               {[]tar.Header{file(strings.Repeat("n/", 2048) + "n")}, rafs.ErrUnsupported, "a path of 4097 bytes"},
		"long path through links": {[]tar.Header{symlink("l", strings.Repeat("n/", 2000)), file("l/" + strings.Repeat("m/", 100) + "f")}, rafs.ErrUnsupported, "it resolves to a path of"},
		"file as a directory":     {[]tar.Header{file("a"), file("a/b")}, nil, `"a" is not a directory`},
		"link as a directory":     {[]tar.Header{file("a"), symlink("l", "a"), file("l/b")}, nil, `"a" is not a directory`},
		"loop":                    {[]tar.Header{symlink("a", "b"), symlink("b", "a"), file("a/c")}, nil, "too many symbolic links"},
		"link to nothing":         {[]tar.Header{link("a", "b")}, nil, `hard link to "b", which is not there`},
		"link to itself":          {[]tar.Header{file("a"), link("a", "a")}, nil, `hard link to "a", which is not there`},
		"link to a directory":     {[]tar.Header{directory("d"), link("a", "d")}, nil, `hard link to "d", which is a directory`},
		"link to the root":        {[]tar.Header{link("a", "/")}, nil, `which is a directory`},
		"root is a file":          {[]tar.Header{file("./.")}, nil, "the root is not a directory"},
		"whiteout of nothing":     {[]tar.Header{file("a/.wh.")}, nil, "a whiteout of no name"},
		"whiteout of dots":        {[]tar.Header{file("a/.wh...")}, nil, "a whiteout of no name"},
		"link without target":     {[]tar.Header{symlink("a", "")}, nil, "a symbolic link to 0 bytes"},
		"link to much":            {[]tar.Header{symlink("a", strings.Repeat("l", 4097))}, nil, "a symbolic link to 4097 bytes"},
		"contiguous file":         {[]tar.Header{{Name: "a", Typeflag: tar.TypeCont}}, rafs.ErrUnsupported, `type '7'`},
		"owner":                   {[]tar.Header{{Name: "a", Typeflag: tar.TypeDir, Uid: math.MaxUint32 + 1}}, nil, "owner 4294967296:0 is out of range"},
		"negative owner":          {[]tar.Header{{Name: "a", Typeflag: tar.TypeDir, Gid: -1, Format: tar.FormatGNU}}, nil, "owner 0:-1 is out of range"},
		"device":                  {[]tar.Header{{Name: "a", Typeflag: tar.TypeChar, Devminor: -1, Format: tar.FormatGNU}}, nil, "device number 0:-1 is out of range"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := applied(t, tarOf(t, test.entries...))
			require.Error(t, err)
			assert.ErrorContains(t, err, test.says)
			if test.is != nil {
				assert.ErrorIs(t, err, test.is)
			}
		})
	}
}

// TestLinksAcrossLayers links to a file of a lower layer, which overlayfs cannot.
func TestLinksAcrossLayers(t *testing.T) {
	owned := link("b", "l/a")
	owned.Uid = 7
	nodes, err := applied(t, tarOf(t, directory("d"), file("d/a"), symlink("l", "d"), file("x")), tarOf(t, owned, file(".wh.x"), link("y", "x")))
	require.NoError(t, err)
	assert.Equal(t, nodes["d/a"].Inode, nodes["b"].Inode)
	assert.EqualValues(t, 2, nodes["b"].Links)
	assert.EqualValues(t, 7, nodes["d/a"].UID)
	assert.EqualValues(t, 1, nodes["y"].Links) // of a file that the same layer deletes
	assert.NotContains(t, nodes, "x")

	_, err = applied(t, tarOf(t, file("a")), tarOf(t, link("b", "c")))
	assert.ErrorContains(t, err, `"b": hard link to "c", which is not there`)
}

// TestWhiteoutsSpeakOfLowerLayers wherever they stand in their own.
func TestWhiteoutsSpeakOfLowerLayers(t *testing.T) {
	lower := tarOf(t, file("a"), directory("d"), file("d/lower"), directory("e"), file("e/lower"))
	upper := []tar.Header{file("a"), directory("d"), file("d/upper"), directory("e"), file("e/upper")}
	marks := []tar.Header{file(".wh.a"), file(".wh.d"), file("e/.wh..wh..opq")}
	for name, archive := range map[string][]byte{
		"before": tarOf(t, append(marks, upper...)...), "after": tarOf(t, append(upper, marks...)...),
	} {
		nodes, err := applied(t, lower, archive)
		require.NoError(t, err, name)
		assert.Len(t, nodes, 6, name)
		for _, path := range []string{".", "a", "d", "d/upper", "e", "e/upper"} {
			assert.Contains(t, nodes, path, name)
		}
	}
	nodes, err := applied(t, tarOf(t, file(".wh.a"), file("b"), file(".wh..wh..opq")))
	require.NoError(t, err)
	assert.Len(t, nodes, 2)
}

// TestBudget bounds what entries may take of memory.
func TestBudget(t *testing.T) {
	archive := tarOf(t, directory("a/b/c/d"), file("a/b/c/d/e"), symlink("l", strings.Repeat("l", 1000)))
	var needed int64
	for ; ; needed += 10 {
		if _, err := apply(t, newBudget(needed), archive); err == nil {
			break
		} else {
			var limit *rafs.LimitError
			require.ErrorAs(t, err, &limit)
			require.Equal(t, rafs.LimitError{Bound: rafs.BoundMetadata, What: limit.What, Allowed: needed}, *limit)
		}
	}
	assert.Greater(t, memoryShare*needed, int64(6*nodeMetadata+1000))
	assert.Less(t, memoryShare*needed, int64(6*nodeMetadata+3000))
}

// FuzzApply applies any bytes as a layer onto another and to itself. It ends, what it
// gives can be walked, and is the same another time. With mend, sizes and checksums of
// the archives are right, or hardly one that is altered would be read.
func FuzzApply(f *testing.F) {
	f.Add([]byte{}, []byte{}, false)
	for _, archives := range [][2][]byte{
		{tarOf(f, directory("d"), file("d/a"), symlink("l", "d"), file("l/b"), link("h", "d/a")),
			tarOf(f, file("d/.wh.a"), file(".wh..wh..opq"), link("h2", "h"), file("l/x"))},
		{tarOf(f, symlink("a", "../b/../c"), file("a/b"), file("a")), tarOf(f, directory("."), symlink("x", "/"), file("x/y"))},
	} {
		f.Add(archives[0], archives[1], false)
		f.Add(archives[0], archives[1], true)
	}
	for _, spec := range []testimage.Spec{testimage.Odd(f), testimage.Links(f), testimage.Whiteouts(), testimage.WhiteoutInBase(f), testimage.Lossy(f), hardLinks(f)} {
		image, err := testimage.BuildOCI(f, spec).Layers()
		require.NoError(f, err)
		var layers [][]byte
		for _, l := range image {
			r, err := l.Uncompressed()
			require.NoError(f, err)
			layer, err := io.ReadAll(r)
			require.NoError(f, err)
			if len(layer) <= maxFuzzedLayer {
				layers = append(layers, layer)
			}
		}
		require.NotEmpty(f, layers, spec.Name)
		for i, layer := range layers {
			f.Add(layer, layers[(i+1)%len(layers)], true)
		}
	}
	sizes := make(map[int64]struct{})
	for size := range int64(1 << 12) {
		sizes[size] = struct{}{} // a sparse file of any size takes any time
	}
	f.Fuzz(func(t *testing.T, lower, upper []byte, mend bool) {
		if mend {
			lower, upper = mutate.MendTar(lower), mutate.MendTar(upper)
		}
		p := &plan{uniform: &cut{size: 4096, digester: rafs.Blake3}, sizes: sizes}
		tree, err := applyPlanned(t, p, newBudget(16<<20), lower, upper, lower)
		again, errAgain := applyPlanned(t, p, newBudget(16<<20), lower, upper, lower)
		require.Equal(t, fmt.Sprint(err), fmt.Sprint(errAgain), "applied twice")
		if err != nil {
			return
		}
		seen := make(map[string]bool)
		require.NoError(t, tree.Walk(func(n Node) error {
			require.False(t, seen[n.Path], "%q twice", n.Path)
			seen[n.Path] = true
			require.NotZero(t, n.Mode&typeMask)
			require.NotZero(t, n.Links)
			return nil
		}))
		differences, err := Compare(noContent{tree}, noContent{again})
		require.NoError(t, err)
		require.Empty(t, differences)
	})
}

// maxFuzzedLayer leaves out what is long for its data alone.
const maxFuzzedLayer = 128 << 10

// noContent leaves content out, which a tree that was read cannot give again.
type noContent struct{ Filesystem }

func (f noContent) Walk(fn func(Node) error) error {
	return f.Filesystem.Walk(func(n Node) error {
		n.Open = func() (io.ReadCloser, error) {
			return io.NopCloser(io.LimitReader(endless{}, n.Size)), nil
		}
		n.content = nil
		if n.Size > 1<<20 {
			n.Size = 0
		}
		return fn(n)
	})
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// everything hashes all content.
func everything() *plan { return &plan{uniform: &cut{size: 4096, digester: rafs.SHA256}} }

// treeOf applies layers in memory.
func treeOf(t testing.TB, layers []io.Reader) *ociTree {
	t.Helper()
	tree := &ociTree{root: impliedDirectory()}
	b := newBudget(rafs.DefaultMetadata)
	for _, r := range layers {
		l := newLayer(everything(), b)
		require.NoError(t, l.read(t.Context(), r))
		require.NoError(t, tree.apply(l))
	}
	tree.number()
	return tree
}

// TestEndlessLayer: what nobody wants of an archive is skipped no longer than the context lives.
func TestEndlessLayer(t *testing.T) {
	for name, content := range map[string]io.Reader{
		"in an entry":    io.MultiReader(bytes.NewReader(tarHeaderOf(t, 64<<30)), &zeroReader{}),
		"behind the end": &zeroReader{},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			archive := &endingReader{content, 1 << 20, cancel}
			r := &layerReader{plan: &plan{}, budget: newBudget(1 << 20)}
			require.ErrorIs(t, r.unpack(ctx, archive, "", newLayer(r.plan, r.budget)), context.Canceled)
			assert.Greater(t, archive.left, -1<<20, "bytes left when it ended")
		})
	}
}

func tarHeaderOf(t *testing.T, size int64) []byte {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, tar.NewWriter(&b).WriteHeader(&tar.Header{Name: "x", Mode: 0o644, Size: size, Format: tar.FormatGNU}))
	return b.Bytes()
}

// A zeroReader gives zeros for ever.
type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// An endingReader ends a context when left bytes have been read.
type endingReader struct {
	io.Reader
	left int
	end  func()
}

func (r *endingReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if r.left -= n; r.left <= 0 {
		r.end()
	}
	if r.left < -64<<20 {
		return n, io.ErrUnexpectedEOF // or the test would not end
	}
	return n, err
}
