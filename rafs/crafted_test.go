package rafs_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// craft makes a bootstrap of RAFS v5 without data.
func craft(files ...testimage.CraftedFile) []byte { return testimage.CraftV5(files, nil, nil) }

// refuses fails where a bootstrap can be walked, or is refused for another reason.
func refuses(t *testing.T, b []byte, says string) {
	t.Helper()
	err := readAll(b)
	require.ErrorIs(t, err, rafs.ErrCorrupt)
	require.ErrorContains(t, err, says)
}

// children lets a directory have other children.
func children(first, count uint32) func([]byte, uint32) {
	return func(record []byte, _ uint32) {
		le.PutUint32(record[92:], first)
		le.PutUint32(record[96:], count)
	}
}

// TestCraftedSubtrees: directories that share what is below them, or lead back up.
func TestCraftedSubtrees(t *testing.T) {
	dir := func(name string, alter func([]byte, uint32)) testimage.CraftedFile {
		d := testimage.CraftedDir(name)
		d.Alter = alter
		return d
	}
	// Numbers: 1 root, 2 a, 3 b, 4 a/sub, 5 a/sub/x.
	sub := []testimage.CraftedFile{testimage.CraftedDir("a/sub"), testimage.CraftedDir("a/sub/x")}
	require.NoError(t, readAll(craft(append(sub, testimage.CraftedDir("b"))...)))
	for name, b := range map[string]struct {
		boot []byte
		says string
	}{
		"a shared subtree":     {craft(append(sub, dir("b", children(4, 1)))...), "is reached twice"},
		"ranges that overlap":  {craft(append(sub, testimage.CraftedDir("a/sub2"), dir("b", children(4, 2)))...), "is reached twice"},
		"a cycle to itself":    {craft(append(sub, dir("b", children(3, 1)))...), "comes before its directory"},
		"a cycle to the root":  {craft(append(sub, dir("b", children(1, 1)))...), "comes before its directory"},
		"outside of the table": {craft(append(sub, dir("b", children(5, 9)))...), "outside the inode table"},
		"a wrap-around":        {craft(append(sub, dir("b", children(1<<32-1, 1<<32-1)))...), "claim more bytes"},
	} {
		t.Run(name, func(t *testing.T) { refuses(t, b.boot, b.says) })
	}
	t.Run("v6", func(t *testing.T) { // two names of one directory
		b, tree := load(t, "tree-v6/bootstrap"), openSample(t, "tree-v6/bootstrap")
		le.PutUint64(v6Dirent(t, b, find(t, tree, "emptydir").Number), find(t, tree, "many").Number)
		refuses(t, b, "is reached twice")
	})
}

// TestCraftedCounts: superblocks of small files that declare millions of inodes.
func TestCraftedCounts(t *testing.T) {
	b := craft(testimage.CraftedDir("a"))
	le.PutUint64(b[24:], 1<<40) // which nobody needs
	readsWithin(t, b)
	for _, entries := range []uint32{1 << 22, 1<<32 - 1} {
		b = craft(testimage.CraftedDir("a"))
		le.PutUint32(b[56:], entries)
		refuses(t, b, "inode table")
	}
	v6 := load(t, "tree-v6/bootstrap")
	le.PutUint64(v6[1024+16:], 1<<62)
	readsWithin(t, v6)
}

// readsWithin reads a tree whole, with no more memory than what is there takes.
func readsWithin(t *testing.T, b []byte) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	require.NoError(t, readAll(b))
	runtime.ReadMemStats(&after)
	assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(20*len(b)+1<<20), "bytes allocated for %d", len(b))
}

// TestCraftedSizes: files of 2^63 bytes, and of as many as a signed number holds.
func TestCraftedSizes(t *testing.T) {
	refuses(t, craft(testimage.CraftedFile{Path: "x", Size: 1 << 63, Hole: true}), "inode size of 9223372036854775808 bytes")
	refuses(t, craft(testimage.CraftedFile{Path: "x", Size: 1 << 62}), "without holes")
	require.NoError(t, readAll(craft(testimage.CraftedFile{Path: "x", Size: 1<<63 - 1, Hole: true})))
}

// TestCraftedXattrs: areas of extended attributes that lie about their sizes.
func TestCraftedXattrs(t *testing.T) {
	pair := func(size uint32, text string) []byte { return append(le.AppendUint32(nil, size), text...) }
	file := func(area []byte) []byte { return craft(testimage.CraftedFile{Path: "x", Xattrs: area}) }
	require.NoError(t, readAll(file(pair(8, "user.a\x00b"))))
	for name, c := range map[string]struct {
		area []byte
		says string
	}{
		"a pair behind the end": {pair(9, "user.a\x00b"), "ends outside"},
		"a pair of 4 GiB":       {pair(1<<32-1, "user.a\x00b"), "ends outside"},
		"half a size":           {[]byte{1, 0}, "ends outside"},
		"no name":               {pair(2, "\x00b"), "has no name"},
		"no value":              {pair(6, "user.a"), "has no name"},
		"one twice":             {append(pair(8, "user.a\x00b"), pair(8, "user.a\x00c")...), "is there twice"},
	} {
		t.Run(name, func(t *testing.T) { refuses(t, file(c.area), c.says) })
	}
	b := file(pair(8, "user.a\x00b"))
	at := bytes.Index(b, pair(8, "user.a")) - 8
	for _, size := range []uint64{1 << 40, 1 << 63, 1<<64 - 1} {
		le.PutUint64(b[at:], size)
		refuses(t, b, "lies outside the bootstrap")
	}
	v6 := load(t, "tree-v6/bootstrap")
	le.PutUint16(v6Inode(t, v6, "data/chunks")[2:], 0xffff)
	require.Error(t, readAll(v6))
}

// TestCraftedNames: names that are no element of a path are refused, others are what
// they are.
func TestCraftedNames(t *testing.T) {
	for name, says := range map[string]string{"..": `is named ".."`, "a\x00b": "a NUL byte", "": "has no name"} {
		f := testimage.CraftedFile{Path: "d/name"}
		b := craft(f)
		record := v5Find(t, b, "name")
		copy(record[128:], name)
		le.PutUint16(record[100:], uint16(len(name)))
		refuses(t, b, says)
	}
	b := craft(testimage.CraftedFile{Path: "d/name"})
	copy(v5Find(t, b, "name")[128:], "a/me")
	refuses(t, b, "has a slash")
	for _, name := range []string{"new\nline", "\x1b[31m", "\xff\xfe", "\u202e", " ", "-rf", "..."} {
		tree, err := openBytes(craft(testimage.CraftedFile{Path: "d/" + name}))
		require.NoError(t, err)
		list, _ := paths(t, tree)
		assert.Equal(t, []string{".", "d", "d/" + name}, list)
		_, err = tree.Lookup("d/" + name)
		assert.NoError(t, err)
	}
}

// TestCraftedTargets: symbolic links lead nowhere but into the tree.
func TestCraftedTargets(t *testing.T) {
	tree, err := openBytes(craft(
		testimage.CraftedLink("a/up", "../../../../etc/passwd"), testimage.CraftedLink("absolute", "/etc/passwd"),
		testimage.CraftedLink("loop", "loop"), testimage.CraftedFile{Path: "etc/passwd"},
	))
	require.NoError(t, err)
	for _, name := range []string{"a/up", "absolute"} {
		path, _, err := tree.Resolve(name, true)
		require.NoError(t, err)
		assert.Equal(t, "etc/passwd", path)
	}
	_, _, err = tree.Resolve("loop", true)
	assert.ErrorContains(t, err, "too many levels")
}

// TestCraftedLinkedLinks: two names of one symbolic link lead to the same, for a
// container reads the first.
func TestCraftedLinkedLinks(t *testing.T) {
	links := func(target string) []byte {
		one := func(r []byte) { le.PutUint32(r[88:], 2) }
		a, b := testimage.CraftedLink("a", "bin/good"), testimage.CraftedLink("b", target)
		a.Alter = func(r []byte, _ uint32) { one(r) }
		b.Alter = func(r []byte, node uint32) { one(r); le.PutUint64(r[40:], uint64(node-1)) }
		return craft(a, b)
	}
	problems := func(b []byte) []string {
		tree, err := openBytes(b)
		require.NoError(t, err)
		var all []rafs.Problem
		tree.Check(t.Context(), digestOf, func(p rafs.Problem) { all = append(all, p) })
		return found(all)
	}
	assert.NotContains(t, problems(links("bin/good")), "b: hard link")
	assert.Contains(t, problems(links("bin/evil")), "b: hard link")
}

// TestCraftedBounds: what a user may raise.
func TestCraftedBounds(t *testing.T) {
	var files []testimage.CraftedFile
	deep := strings.Repeat("d/", 2000)
	for i := range 100 {
		files = append(files, testimage.CraftedFile{Path: fmt.Sprintf("%s%d", deep, i)})
	}
	walk := func(b []byte, names int64) error {
		tree, err := openBytes(b)
		require.NoError(t, err)
		tree.Allow(names, rafs.DefaultMetadata)
		return tree.Walk(func(string, rafs.Inode) error { return nil })
	}
	var limit *rafs.LimitError
	b := craft(files...)
	require.ErrorAs(t, walk(b, 10), &limit)
	assert.Equal(t, rafs.LimitError{Bound: rafs.BoundNames, What: "the tree's names", Allowed: 10}, *limit)
	require.ErrorAs(t, walk(b, 2101), &limit, "paths of 2000 bytes on average")
	assert.ErrorIs(t, limit, rafs.ErrUnsupported)
	assert.NoError(t, walk(b, 20_000))

	budget := rafs.NewBudget(rafs.BoundTemp, 100)
	require.NoError(t, budget.Take("x", 60))
	for _, n := range []uint64{41, 1 << 63, 1<<64 - 1} {
		require.ErrorAs(t, budget.Take("x", n), &limit)
	}
	require.NoError(t, budget.Take("x", 40))
	budget.Return(60)
	require.NoError(t, budget.Take("x", 60))
}

// TestCraftedViews: what runtimes would read in different ways.
func TestCraftedViews(t *testing.T) {
	t.Run("inode number", func(t *testing.T) {
		// Numbers: 1 root, 2 a, 3 b.
		other := func(number uint64) []byte {
			return craft(testimage.CraftedFile{Path: "a", Size: 7, Hole: true}, testimage.CraftedFile{Path: "b", Size: 9, Hole: true,
				Alter: func(record []byte, _ uint32) { binary.LittleEndian.PutUint64(record[40:], number) }})
		}
		require.NoError(t, readAll(other(3)))
		refuses(t, other(2), "which is another file: a container would read that")
		refuses(t, other(9), "outside the inode table")
		refuses(t, other(0), "outside the inode table")
	})
	t.Run("chunks", func(t *testing.T) {
		blobs := []testimage.CraftedBlob{{ID: "b0", Chunks: 2, Stored: 100, Size: 100}, {ID: "b1", Chunks: 2, Stored: 100, Size: 100}, {ID: "old"}}
		one := testimage.CraftedChunk{Offset: 20, Stored: 10, Size: 10, Place: 20, Digest: [32]byte{1}}
		with := func(change func(c *testimage.CraftedChunk)) []byte {
			other := one
			change(&other)
			b := testimage.CraftedFile{Path: "d/b", Size: other.FileOffset + 10, Chunks: []testimage.CraftedChunk{other}}
			if size := uint32(other.FileOffset); size > 0 {
				b.Chunks = []testimage.CraftedChunk{{Index: 1, Offset: 90, Stored: size, Size: size, Place: 90}, other}
				b.Hole = true // chunks of any size
			}
			return testimage.CraftV5([]testimage.CraftedFile{{Path: "a", Size: 10, Chunks: []testimage.CraftedChunk{one}}, b}, blobs, nil)
		}
		for name, change := range map[string]func(c *testimage.CraftedChunk){
			"the same":                        func(*testimage.CraftedChunk) {},
			"the same, elsewhere in its file": func(c *testimage.CraftedChunk) { c.FileOffset = 7 },
			"another blob's":                  func(c *testimage.CraftedChunk) { c.Blob, c.Digest = 1, [32]byte{2} },
			"its neighbours":                  func(c *testimage.CraftedChunk) { c.Index, c.Offset, c.Place, c.Digest = 1, 50, 30, [32]byte{2} },
			"before":                          func(c *testimage.CraftedChunk) { c.Index, c.Offset, c.Place, c.Digest = 1, 50, 10, [32]byte{2} },
		} {
			require.NoError(t, readAll(with(change)), name)
		}
		for name, change := range map[string]func(c *testimage.CraftedChunk){
			"place":   func(c *testimage.CraftedChunk) { c.Place = 50 },
			"stored":  func(c *testimage.CraftedChunk) { c.Offset = 50 },
			"digest":  func(c *testimage.CraftedChunk) { c.Digest[31] = 1 },
			"flags":   func(c *testimage.CraftedChunk) { c.Flags = 1 },
			"content": func(c *testimage.CraftedChunk) { c.Offset, c.Place, c.Digest = 50, 50, [32]byte{2} },
		} {
			t.Run(name, func(t *testing.T) {
				refuses(t, with(change), "two chunks have number 0 of blob 0: a container could read either")
				require.NotEmpty(t, problemsOf(with(change)), "check finds it as well")
			})
		}
		for name, change := range map[string]func(c *testimage.CraftedChunk){
			"another content":    func(c *testimage.CraftedChunk) { c.Digest[31] = 1 },
			"stored elsewhere":   func(*testimage.CraftedChunk) {},
			"the last byte":      func(c *testimage.CraftedChunk) { c.Place += 9 },
			"the first byte":     func(c *testimage.CraftedChunk) { c.Place -= 9 },
			"a part of the same": func(c *testimage.CraftedChunk) { c.Place++ },
		} {
			t.Run(name, func(t *testing.T) {
				b := with(func(c *testimage.CraftedChunk) { c.Index, c.Offset = 1, 50; change(c) })
				refuses(t, b, "share bytes of the decompressed blob")
				require.NotEmpty(t, problemsOf(b), "check finds it as well")
			})
		}
		t.Run("of a blob that does not number them", func(t *testing.T) {
			one.Blob = 2
			require.NoError(t, readAll(with(func(c *testimage.CraftedChunk) { c.Place, c.Digest = 50, [32]byte{2} })), "nydusd goes by digests")
		})
	})
	for name, c := range map[string]struct {
		change func(b []byte)
		says   string
	}{
		"another device":        {func(b []byte) { b[1408]++ }, "device 0 is blob"},
		"more devices":          {func(b []byte) { b[1024+86]++ }, "the device table has 2 blobs"},
		"another device table":  {func(b []byte) { b[1024+88]++ }, "the device table is in slot 12"},
		"smaller chunks":        {func(b []byte) { v6Inode(t, b, "data/one")[16] = 0x20 }, ""},
		"chunks far from there": {func(b []byte) { v6Inode(t, b, "data/chunks")[64:128][12] ^= 1 }, "would lie elsewhere"},
	} {
		t.Run(name, func(t *testing.T) {
			b := load(t, "tree-v6/bootstrap")
			c.change(b)
			if c.says == "" {
				require.NoError(t, readAll(b), "one chunk lies where it lies")
				return
			}
			refuses(t, b, c.says)
			require.NotEmpty(t, problemsOf(b), "check finds it as well")
		})
	}
}
