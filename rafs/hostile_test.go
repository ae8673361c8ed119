package rafs_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

var le = binary.LittleEndian

// readAll decodes everything of a bootstrap but file data. It goes on after an
// error in one inode and returns the first.
func readAll(b []byte) error {
	tree, err := openBytes(b)
	if err != nil {
		return err
	}
	walkErr := tree.Walk(func(_ string, i rafs.Inode) error {
		_, xattrErr := i.Xattrs()
		_, chunkErr := i.Chunks()
		var linkErr error
		if i.IsSymlink() {
			_, linkErr = i.Readlink()
		}
		for _, e := range []error{xattrErr, chunkErr, linkErr} {
			// An error of no class must not hide behind one that has a class.
			if err == nil || e != nil && !classified(e) {
				err = e
			}
		}
		return nil
	})
	if err == nil || walkErr != nil && !classified(walkErr) {
		err = walkErr
	}
	return err
}

func classified(err error) bool {
	return errors.Is(err, rafs.ErrCorrupt) || errors.Is(err, rafs.ErrUnsupported)
}

// requireClassified fails if err is neither nil nor of the two classes.
func requireClassified(t testing.TB, err error, what ...any) {
	t.Helper()
	if err != nil {
		require.True(t, classified(err), "%v: %v", what, err)
	}
}

func TestRefusedByName(t *testing.T) {
	v4 := make([]byte, 8192)
	le.PutUint32(v4, 0x52414653)
	le.PutUint32(v4[4:], 0x400)
	erofs := load(t, "layers/layer4")
	le.PutUint32(erofs[1024+8:], 0)
	future := load(t, "layers/layer1")
	le.PutUint32(future[4096+84:], le.Uint32(future[4096+84:])|0x1000)

	for _, test := range []struct {
		name string
		b    []byte
		want string
	}{
		{"v4", v4, "open bootstrap: unsupported RAFS feature: RAFS v4"},
		{"tarfs", load(t, "nm-tarfs/bootstrap"), "open bootstrap: unsupported RAFS feature: tarfs mode"},
		{"plain EROFS", erofs, "open bootstrap: unsupported RAFS feature: " +
			"an EROFS image without the RAFS v6 mark (Nydus 3 images look like this)"},
		{"blob feature", future, "open bootstrap: blob table entry 0: unsupported RAFS feature: blob features 0x1000"},
	} {
		_, err := openBytes(test.b)
		require.ErrorIs(t, err, rafs.ErrUnsupported, test.name)
		require.EqualError(t, err, test.want)
	}
}

func TestCorruptSamples(t *testing.T) {
	_, err := openBytes(load(t, "nm-v6-optimize/bootstrap"))
	require.ErrorIs(t, err, rafs.ErrCorrupt)
	require.ErrorContains(t, err, "blob table entry 3")

	require.ErrorIs(t, readAll(load(t, "nmaster-parent/bootstrap")), rafs.ErrCorrupt)
}

func TestOpenErrors(t *testing.T) {
	for _, b := range [][]byte{nil, {1}, make([]byte, 20_000), bytes.Repeat([]byte("x"), 20_000)} {
		_, err := openBytes(b)
		require.ErrorIs(t, err, rafs.ErrCorrupt)
	}
	b := load(t, "layers/layer1")
	_, err := rafs.Open(bytes.NewReader(b), int64(len(b))+1)
	require.ErrorIs(t, err, rafs.ErrCorrupt, "a reader that is shorter than its size")
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	_, err = rafs.Open(bytes.NewReader(b), -1)
	require.ErrorIs(t, err, rafs.ErrCorrupt)
	_, err = rafs.Open(bytes.NewReader(b), rafs.MaxBootstrapSize+1)
	require.ErrorIs(t, err, rafs.ErrUnsupported)
	cause := errors.New("disk on fire")
	_, err = rafs.Open(failingReader{cause}, 8192)
	require.ErrorIs(t, err, cause)
}

type failingReader struct{ err error }

func (f failingReader) ReadAt([]byte, int64) (int, error) { return 0, f.err }

func TestTruncated(t *testing.T) {
	for _, sample := range samples {
		b := load(t, sample)
		require.NoError(t, readAll(b), sample)
		random := rand.New(rand.NewPCG(1, uint64(len(b))))
		lengths := []int{0, 1, 7, 8, 1023, 1024, 1028, 1151, 1408, 4096, 8191, 8192, len(b) - 1, len(b) - 4096}
		for range 30 {
			lengths = append(lengths, random.IntN(len(b)))
		}
		for _, length := range lengths {
			if length >= 0 && length < len(b) {
				requireClassified(t, readAll(b[:length]), sample, "at", length)
			}
		}
	}
}

func TestFlippedBytes(t *testing.T) {
	// Small samples give most damage for the time; the start of a bootstrap,
	// with superblock, tables and root, is hit more often than the rest.
	small := []string{"nmaster-merge-v6/bootstrap", "nm-sn-enc/bootstrap", "layers/layer4", "tree-v5/bootstrap", "tree-v6/bootstrap"}
	random := rand.New(rand.NewPCG(2, 3))
	deadline := time.Now().Add(3 * time.Second)
	iterations := 0
	for ; iterations < 5000 && time.Now().Before(deadline); iterations++ {
		sample := small[iterations%len(small)]
		b := bytes.Clone(load(t, sample))
		for range 1 + random.IntN(8) {
			limit := len(b)
			if random.IntN(2) == 0 {
				limit = min(limit, 12_288)
			}
			b[random.IntN(limit)] = byte(random.Uint32())
		}
		requireClassified(t, readAll(b), sample, "iteration", iterations)
	}
	t.Logf("%d iterations", iterations)
}

// v6Inode returns the record of a path in a v6 bootstrap.
func v6Inode(t *testing.T, b []byte, path string) []byte {
	t.Helper()
	tree, err := openBytes(b)
	require.NoError(t, err)
	at := uint64(le.Uint32(b[1024+40:]))*4096 + find(t, tree, path).Number*32
	return b[at : at+64]
}

// v6Dirent returns the directory entry that leads to a nid from above.
func v6Dirent(t *testing.T, b []byte, nid uint64) []byte {
	t.Helper()
	at := bytes.Index(b, le.AppendUint64(nil, nid))
	require.Positive(t, at)
	return b[at:]
}

func TestV6CompactInode(t *testing.T) {
	b := load(t, "tree-v6/bootstrap")
	record := v6Inode(t, b, "times/now")
	clear(record)
	le.PutUint16(record[4:], 0o104711)
	le.PutUint16(record[6:], 7)
	le.PutUint16(record[24:], 1000)
	le.PutUint16(record[26:], 1001)
	tree, err := openBytes(b)
	require.NoError(t, err)
	i := find(t, tree, "times/now")
	assert.Equal(t, []uint32{0o104711, 7, 1000, 1001}, []uint32{i.Mode, i.Links, i.UID, i.GID})
	assert.Zero(t, i.MTime)
	require.NoError(t, readAll(b))
}

func TestV6WithoutChunkTable(t *testing.T) {
	b := load(t, "tree-v6/bootstrap")
	with, err := find(t, openSample(t, "tree-v6/bootstrap"), "data/chunks").Chunks()
	require.NoError(t, err)
	le.PutUint64(b[1152+32:], 0)
	tree, err := openBytes(b)
	require.NoError(t, err)
	without, err := find(t, tree, "data/chunks").Chunks()
	require.NoError(t, err)
	require.Len(t, without, 6)
	for k, c := range with {
		assert.Equal(t, rafs.Chunk{
			Blob: c.Blob, Index: c.Index, FileOffset: c.FileOffset,
			UncompressedOffset: c.UncompressedOffset, UncompressedSize: c.UncompressedSize,
		}, without[k])
	}
}

func TestV6Contradictions(t *testing.T) {
	chunked := func(change func(record, list []byte)) func(t *testing.T, b []byte) {
		return func(t *testing.T, b []byte) {
			record := v6Inode(t, b, "data/chunks")
			change(record, record[64:cap(record)])
		}
	}
	for _, test := range []struct {
		name   string
		change func(t *testing.T, b []byte)
		want   string
	}{
		{"directory cycle", func(t *testing.T, b []byte) {
			tree := openSample(t, "tree-v6/bootstrap")
			le.PutUint64(v6Dirent(t, b, find(t, tree, "emptydir").Number), tree.Root().Number)
		}, "is reached twice"},
		{"negative size", chunked(func(r, _ []byte) { le.PutUint64(r[8:], 1<<63) }), "inode size of 9223372036854775808 bytes"},
		{"huge file", chunked(func(r, _ []byte) { le.PutUint64(r[8:], 1<<62) }), "inodes claim more bytes than the bootstrap has"},
		{"other size", chunked(func(r, _ []byte) { le.PutUint64(r[8:], 20_000) }), "where the file needs"},
		{"no blob", chunked(func(_, l []byte) { l[2] = 0 }), "it is in no blob"},
		{"unknown blob", chunked(func(r, l []byte) { r[16], l[2] = 0x20, 9 }), "blob 8 is not one of the 1"},
		{"unknown number", chunked(func(_, l []byte) { l[1] = 0xff }), "it is number"},
		{"unknown block", chunked(func(r, l []byte) { r[16], l[6] = 0x20, 0xff }), "is not in the chunk table"},
		{"mode", chunked(func(r, _ []byte) { r[5] = 0xf0 }), "has an unknown type"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := load(t, "tree-v6/bootstrap")
			test.change(t, b)
			err := readAll(b)
			require.ErrorIs(t, err, rafs.ErrCorrupt)
			require.ErrorContains(t, err, test.want)
		})
	}
}

// v5Inode returns the record of the node in a v5 bootstrap.
func v5Inode(b []byte, node uint32) []byte {
	table := b[le.Uint64(b[32:]):]
	return b[uint64(le.Uint32(table[4*(node-1):]))*8:]
}

// v5Find returns the record that has a name, which must be there once.
func v5Find(t *testing.T, b []byte, name string) []byte {
	t.Helper()
	for node := uint32(1); node <= le.Uint32(b[56:]); node++ {
		record := v5Inode(b, node)
		if size := int(le.Uint16(record[100:])); string(record[128:128+size]) == name {
			return record
		}
	}
	require.Fail(t, "no such name", name)
	return nil
}

// TestV5Holes: a hole at the end is zeros; of one before a chunk runtimes show other bytes.
func TestV5Holes(t *testing.T) {
	b := load(t, "tree-v5/bootstrap")
	record := v5Find(t, b, "chunks")
	chunks := record[128+8:]
	// The first two chunks move back by one, the end by two chunks.
	for _, k := range []int{0, 1} {
		le.PutUint64(chunks[80*k+64:], uint64(4096*(k+1)))
	}
	le.PutUint32(record[96:], 2)
	require.ErrorContains(t, readAll(b), "leave the stride")

	le.PutUint64(record[80:], le.Uint64(record[80:])|8)
	require.ErrorContains(t, readAll(b), "a hole of 4096 bytes before it, in which nydusd shows it")
	for _, k := range []int{0, 1} {
		le.PutUint64(chunks[80*k+64:], uint64(4096*k))
	}
	require.NoError(t, readAll(b))
	tree, err := openBytes(b)
	require.NoError(t, err)
	file := find(t, tree, "data/chunks").Open("x", plainBlob(load(t, "tree-v5/blob")))
	got, err := io.ReadAll(file)
	require.NoError(t, err)
	want := make([]byte, 5*4096+123)
	copy(want, content()[:8192])
	require.True(t, bytes.Equal(want, got))
}

func TestV5PaddedNames(t *testing.T) {
	b := load(t, "tree-v5/bootstrap")
	le.PutUint16(v5Find(t, b, "deep")[100:], 8)
	le.PutUint16(v5Find(t, b, "absolute")[102:], 8)
	tree, err := openBytes(b)
	require.NoError(t, err)
	find(t, tree, "a/b/c/d/e/f/deep")
	target, err := find(t, tree, "links/absolute").Readlink()
	require.NoError(t, err)
	assert.Equal(t, "/a/b", target)
}

func TestV5WithoutExtendedBlobTable(t *testing.T) {
	b := load(t, "tree-v5/bootstrap")
	tree, err := openBytes(b)
	require.NoError(t, err)
	require.NotZero(t, tree.Blobs()[0].UncompressedSize)
	require.Len(t, tree.Blobs()[0].ID, 64)
	le.PutUint32(b[68:], 0)
	tree, err = openBytes(b)
	require.NoError(t, err)
	require.Len(t, tree.Blobs(), 1)
	assert.Zero(t, tree.Blobs()[0].UncompressedSize)
	require.NoError(t, readAll(b))
}

func TestV5Contradictions(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(b []byte)
		want   string
	}{
		{"children outside", func(b []byte) { le.PutUint32(v5Inode(b, 1)[96:], 1<<31) }, "inodes claim more bytes"},
		{"child before parent", func(b []byte) { le.PutUint32(v5Find(t, b, "a")[92:], 1) }, "comes before its directory"},
		{"unsorted", func(b []byte) { copy(v5Find(t, b, "0007")[128:], "0003") }, "does not sort after"},
		{"slash", func(b []byte) { copy(v5Find(t, b, "0007")[128:], "0/07") }, "has a slash"},
		{"dots", func(b []byte) { le.PutUint16(v5Find(t, b, "...")[100:], 2) }, `is named ".."`},
		{"no name", func(b []byte) { le.PutUint16(v5Find(t, b, "...")[100:], 0) }, "has no name"},
		{"chunk count", func(b []byte) { le.PutUint32(v5Find(t, b, "chunks")[96:], 5) }, "without holes"},
		{"many chunks", func(b []byte) { le.PutUint32(v5Find(t, b, "chunks")[96:], 1<<32-1) }, "inodes claim more bytes"},
		{"blob", func(b []byte) { v5Find(t, b, "chunks")[128+8+32] = 3 }, "blob 3 is not one of the 1"},
		{"long target", func(b []byte) { le.PutUint16(v5Find(t, b, "absolute")[102:], 5000) }, "more than 4096"},
		{"empty target", func(b []byte) { le.PutUint16(v5Find(t, b, "absolute")[102:], 0) }, "it is empty"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := load(t, "tree-v5/bootstrap")
			test.change(b)
			err := readAll(b)
			require.ErrorIs(t, err, rafs.ErrCorrupt)
			require.ErrorContains(t, err, test.want)
		})
	}
}

// TestDeepTree makes a v5 bootstrap that is a chain of directories.
func TestDeepTree(t *testing.T) {
	for depth, want := range map[int]error{4096: nil, 4097: rafs.ErrUnsupported, 100_000: rafs.ErrUnsupported} {
		deepest := 0
		tree, err := openBytes(v5Chain(depth))
		require.NoError(t, err)
		err = tree.Walk(func(string, rafs.Inode) error {
			deepest++
			return nil
		})
		require.ErrorIs(t, err, want, fmt.Sprint(depth))
		assert.Equal(t, min(depth, 4096)+1, deepest)
	}
}

// v5Chain returns a bootstrap of directories named "d", each in the one before.
func v5Chain(depth int) []byte {
	const record = 136
	table := 8192 + (depth+1)*record
	b := make([]byte, table+4*(depth+1))
	le.PutUint32(b, 0x52414653)
	le.PutUint32(b[4:], 0x500)
	le.PutUint32(b[8:], 8192)
	le.PutUint32(b[12:], 1<<20)
	le.PutUint64(b[32:], uint64(table))
	le.PutUint32(b[56:], uint32(depth+1))
	for k := range depth + 1 {
		at := 8192 + k*record
		le.PutUint32(b[table+4*k:], uint32(at/8))
		le.PutUint64(b[at+40:], uint64(k+1))
		le.PutUint32(b[at+60:], 0o040755)
		if k < depth {
			le.PutUint32(b[at+92:], uint32(k+2))
			le.PutUint32(b[at+96:], 1)
		}
		le.PutUint16(b[at+100:], 1)
		b[at+128] = 'd'
	}
	return b
}
