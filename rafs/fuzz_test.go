package rafs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/mutate"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// small returns bootstraps of every kind that are small enough to be fuzzed.
func small(f *testing.F) (all [][]byte) {
	f.Helper()
	for _, image := range mutate.Images(f) {
		all = append(all, image.Bootstrap)
	}
	for _, name := range []string{"nmaster-merge-v6/bootstrap",
		"n220-zran-multimember/bootstrap", "layers/layer1", "layers/layer4"} {
		all = append(all, load(f, name))
	}
	return all
}

// mutable finds the fields of the samples.
func mutable(f *testing.F) (all []*mutate.Sample) {
	f.Helper()
	for _, bootstrap := range small(f) {
		s, err := mutate.New(bootstrap)
		require.NoError(f, err)
		all = append(all, s)
	}
	return all
}

// seedRecipes adds recipes that change one field: each sample has a third of the
// names, so that the seeds take no longer than what follows.
func seedRecipes(f *testing.F, samples []*mutate.Sample) {
	f.Helper()
	for k, s := range samples {
		f.Add(uint8(k), []byte{})
		for n, name := range s.Names() {
			if (n+k)%3 != 0 {
				continue
			}
			f.Add(uint8(k), append([]byte{byte(n) % 4}, s.Step(name, uint16(7*n), byte(n), byte(31*n))...))
			f.Add(uint8(k), append([]byte{byte(n) << 3}, s.Step(name, 0, 3, byte(n*13))...))
		}
	}
}

// FuzzOpen wants -fuzzminimizetime 1x: its inputs are large, and minimizing them
// takes all the time.
func FuzzOpen(f *testing.F) {
	for _, sample := range small(f) {
		f.Add(sample)
	}
	f.Add(load(f, "nmaster-parent/bootstrap"))
	f.Add(load(f, "nm-v6-optimize/bootstrap"))
	f.Add(load(f, "nm-tarfs/bootstrap"))
	f.Add(v5Chain(3))
	f.Fuzz(requireSoundReading)
}

// FuzzMutated reads samples of which fields have been changed by name, and what has
// to fit has been mended: past the first checks.
func FuzzMutated(f *testing.F) {
	samples := mutable(f)
	seedRecipes(f, samples)
	f.Fuzz(func(t *testing.T, sample uint8, recipe []byte) {
		requireSoundReading(t, samples[int(sample)%len(samples)].Apply(recipe))
	})
}

// FuzzMutatedCheck is FuzzMutated for Check: it says the same twice, and where it
// finds nothing, everything can be read.
func FuzzMutatedCheck(f *testing.F) {
	samples := mutable(f)
	seedRecipes(f, samples)
	f.Fuzz(func(t *testing.T, sample uint8, recipe []byte) {
		requireSoundCheck(t, samples[int(sample)%len(samples)].Apply(recipe))
	})
}

// FuzzCheck: on any bytes Check ends, does not panic and says the same twice. As
// FuzzOpen it wants -fuzzminimizetime 1x.
func FuzzCheck(f *testing.F) {
	for _, sample := range small(f) {
		f.Add(sample)
	}
	f.Add(load(f, "nmaster-parent/bootstrap"))
	f.Add(v5Chain(3))
	f.Fuzz(requireSoundCheck)
}

func requireSoundCheck(t *testing.T, b []byte) {
	first := problemsOf(b)
	require.Equal(t, first, problemsOf(b))
	if len(first) == 0 {
		require.NoError(t, readAll(b), "Check finds nothing, and it cannot be read")
	}
}

// requireSoundReading holds the reader to what it promises for any bytes: what
// opens is walked to an end, within the bounds that the bootstrap's size sets; what
// is read lies inside what was declared; errors are of a class; and a second
// reading gives the same.
func requireSoundReading(t *testing.T, b []byte) {
	original := bytes.Clone(b)
	first, err := listing(t, b)
	requireClassified(t, err)
	second, again := listing(t, b)
	require.Equal(t, first, second, "two readings")
	require.Equal(t, fmt.Sprint(err), fmt.Sprint(again), "two readings")
	require.True(t, bytes.Equal(original, b), "reading changed the bootstrap")
}

// listing describes everything of a bootstrap, errors included. It ends with the
// first error of the walk.
func listing(t *testing.T, b []byte) (lines []string, err error) {
	tree, err := openBytes(b)
	if err != nil {
		return nil, err
	}
	blobs := len(tree.Blobs())
	require.LessOrEqual(t, blobs, len(b)/8, "blobs")
	distinct := make(map[string]rafs.Inode)
	entries := 0
	prefetch, err := tree.Prefetch()
	requireClassified(t, err)
	require.LessOrEqual(t, len(prefetch), len(b)/4, "prefetch table")
	err = tree.Walk(func(path string, i rafs.Inode) error {
		// A name takes at least 12 bytes of a directory in v6, an inode in v5.
		entries++
		require.LessOrEqual(t, entries, len(b)/12+1, "names")
		require.NotContains(t, distinct, path, "twice")
		distinct[path] = i
		require.LessOrEqual(t, len(path), 8192)
		require.GreaterOrEqual(t, i.Size, int64(0), path)
		if path != "." {
			for part := range strings.SplitSeq(path, "/") {
				require.True(t, part != "" && part != "." && part != "..", "%q", path)
				require.NotContains(t, part, "\x00")
			}
		}
		line := fmt.Sprintf("%q %v", path, [...]any{i.Number, i.Mode, i.UID, i.GID, i.Links, i.Rdev, i.Size, i.MTime, i.MTimeNsec})
		parts := []string{line, readXattrs(t, i, len(b)), readTarget(t, i), readChunks(t, i, blobs, len(b)), readFile(t, path, i)}
		lines = append(lines, strings.Join(parts, " "))
		return nil
	})
	for path, i := range distinct {
		looked, lookErr := tree.Lookup(path)
		if err != nil {
			// A search may meet entries of which a walk that fails never knew, and in a
			// directory that is not sorted another of the same name, or none.
			if !errors.Is(lookErr, fs.ErrNotExist) {
				requireClassified(t, lookErr)
			}
			continue
		}
		require.NoError(t, lookErr, path)
		require.Equal(t, i, looked, path)
	}
	if err == nil {
		requireSameAsFS(t, tree, distinct)
	}
	return lines, err
}

// requireSameAsFS walks a tree without cycles as io/fs has it.
func requireSameAsFS(t *testing.T, tree *rafs.Tree, inodes map[string]rafs.Inode) {
	files := tree.FS(&declared{})
	names := 0
	err := fs.WalkDir(files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			require.False(t, fs.ValidPath(path) && classified(err) && inodes[path].IsDir(), "%q: %v", path, err)
			return nil
		}
		names++
		require.Contains(t, inodes, path)
		require.Equal(t, inodes[path].IsDir(), entry.IsDir(), path)
		// Links may lead to nothing, to themselves, or through a file.
		if info, err := fs.Stat(files, path); err == nil && !inodes[path].IsSymlink() {
			require.Equal(t, inodes[path].Size, info.Size(), path)
		}
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, len(inodes), names)
}

func readXattrs(t *testing.T, i rafs.Inode, size int) string {
	xattrs, err := i.Xattrs()
	requireClassified(t, err)
	var list []string
	bytes := 0
	for name, value := range xattrs {
		require.NotEmpty(t, name)
		require.NotContains(t, name, "\x00")
		list = append(list, fmt.Sprintf("%q=%x", name, value))
		bytes += len(value)
	}
	require.LessOrEqual(t, bytes, size, "xattrs")
	slices.Sort(list)
	return fmt.Sprint(list, err)
}

func readTarget(t *testing.T, i rafs.Inode) string {
	if !i.IsSymlink() {
		return ""
	}
	target, err := i.Readlink()
	requireClassified(t, err)
	if err == nil {
		require.True(t, target != "" && len(target) <= 4096, "a target of %d bytes", len(target))
	}
	return fmt.Sprintf("%q %v", target, err)
}

func readChunks(t *testing.T, i rafs.Inode, blobs, size int) string {
	chunks, err := i.Chunks()
	requireClassified(t, err)
	require.LessOrEqual(t, len(chunks), size/8, "chunks")
	var end int64
	for k, c := range chunks {
		require.True(t, c.Blob >= 0 && c.Blob < blobs, "chunk %d lies in blob %d of %d", k, c.Blob, blobs)
		require.GreaterOrEqual(t, c.FileOffset, end, "chunk %d", k)
		require.NotZero(t, c.UncompressedSize, "chunk %d", k)
		end = c.FileOffset + int64(c.UncompressedSize)
		require.LessOrEqual(t, end, i.Size, "chunk %d", k)
	}
	return fmt.Sprint(chunks, err)
}

// declared gives chunks of the size that they declare.
type declared struct{ asked int }

func (d *declared) ReadChunk(c *rafs.Chunk) ([]byte, error) {
	d.asked += int(c.UncompressedSize)
	return make([]byte, c.UncompressedSize), nil
}

// readFile reads a file's beginning and its end, as large as it may say it is.
func readFile(t *testing.T, path string, i rafs.Inode) string {
	if !i.IsRegular() {
		return ""
	}
	const most = 64 << 10
	file := i.Open(path, &declared{})
	n, err := io.Copy(io.Discard, io.LimitReader(file, most))
	requireReadable(t, err)
	require.LessOrEqual(t, n, i.Size)
	if err == nil {
		require.Equal(t, min(i.Size, most), n, "%s ends early", path)
	}
	at := max(i.Size-100, 0)
	got, tailErr := file.ReadAt(make([]byte, 200), at)
	if tailErr == io.EOF {
		require.EqualValues(t, i.Size-at, got, "%s ends early", path)
	} else {
		requireReadable(t, tailErr)
	}
	return fmt.Sprint(n, err, got, tailErr)
}

func requireReadable(t *testing.T, err error) {
	if err != nil {
		require.True(t, classified(err), "%v", err)
	}
}
