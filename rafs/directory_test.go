package rafs_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

const craftedBlock = 4096

// craftV6 makes a bootstrap of RAFS v6 whose root has these names, in this order, of
// empty files, and "." and ".." before the first that sorts after them.
func craftV6(names []string) []byte {
	const inodesAt, inodeSize = 2 * craftedBlock, 64
	dots := slices.IndexFunc(names, func(name string) bool { return name > ".." })
	if dots < 0 {
		dots = len(names)
	}
	entries := slices.Insert(slices.Clone(names), dots, ".", "..")
	var data []byte
	files := uint64(0)
	for k := 0; k < len(entries); {
		count, size := 0, 0
		for k+count < len(entries) && size+12+len(entries[k+count]) <= craftedBlock {
			size += 12 + len(entries[k+count])
			count++
		}
		block := make([]byte, craftedBlock)
		at := 12 * count
		for i, name := range entries[k : k+count] {
			record := block[12*i:]
			if record[10] = 2; name != "." && name != ".." {
				files++
				le.PutUint64(record, files*inodeSize/32)
				record[10] = 1
			}
			le.PutUint16(record[8:], uint16(at))
			at += copy(block[at:], name)
		}
		if k += count; k == len(entries) {
			block = block[:at]
		}
		data = append(data, block...)
	}
	dataAt := (inodesAt + inodeSize*(len(names)+1) + craftedBlock - 1) / craftedBlock
	b := append(make([]byte, dataAt*craftedBlock), data...)
	b = append(b, make([]byte, -len(b)&(craftedBlock-1))...)
	inode := func(k int, layout, mode uint16, size uint64, union, links uint32) {
		record := b[inodesAt+inodeSize*k:]
		le.PutUint16(record, 1|layout<<1)
		le.PutUint16(record[4:], mode)
		le.PutUint64(record[8:], size)
		le.PutUint32(record[16:], union)
		le.PutUint32(record[20:], uint32(k+1))
		le.PutUint32(record[44:], links)
	}
	inode(0, 0, 0o040755, uint64(len(data)), uint32(dataAt), 2)
	for k := range names {
		inode(k+1, 4, 0o100644, 0, 0x20, 1)
	}
	super := b[1024:]
	le.PutUint32(super, 0xe0f5e1e2)
	le.PutUint32(super[8:], 0x40000000)
	super[12] = 12
	le.PutUint64(super[16:], uint64(len(names)+1))
	le.PutUint32(super[40:], inodesAt/craftedBlock)
	le.PutUint32(super[80:], 0xc)
	le.PutUint16(super[88:], 11)
	extended := super[128:]
	le.PutUint64(extended, 0x80|0x8|0x10) // zstd, SHA-256, owners as stored
	le.PutUint64(extended[8:], craftedBlock)
	le.PutUint32(extended[20:], 1<<20)
	return b
}

// numbered returns sorted names, each of so many bytes.
func numbered(count, size int) []string {
	names := make([]string, count)
	for k := range names {
		names[k] = fmt.Sprintf("%0*d", size, k)
	}
	return names
}

func opened(t testing.TB, b []byte) *rafs.Tree {
	t.Helper()
	tree, err := openBytes(b)
	require.NoError(t, err)
	return tree
}

// TestLookupBlocks looks up what is in a directory, between its names, before and
// after them, where it has no block at all, a part of one, and many.
func TestLookupBlocks(t *testing.T) {
	early := func(count int) []string { // names that sort before "." and "..", and some after
		names := numbered(count, 240)
		for k := range count - count/4 {
			names[k] = "+" + names[k][1:]
		}
		return names
	}
	for _, names := range [][]string{
		nil, numbered(1, 240), numbered(15, 240), numbered(16, 240), numbered(17, 240), numbered(31, 240), numbered(500, 240),
		early(8), early(100), {"!"}, {"!", "~"},
	} {
		b := craftV6(names)
		require.NoError(t, readAll(b))
		require.Empty(t, problemsOf(b))
		tree := opened(t, b)
		entries, err := tree.Root().Entries()
		require.NoError(t, err)
		require.Len(t, entries, len(names))
		for k, e := range entries {
			require.Equal(t, names[k], e.Name)
			require.Equal(t, e.Inode, find(t, tree, e.Name))
			for _, missing := range []string{"." + e.Name, e.Name + "0", e.Name + "\x00", e.Name[:len(e.Name)-1] + "\x7f", e.Name[:len(e.Name)-1]} {
				_, err := tree.Lookup(missing)
				require.Error(t, err, "%q", missing)
			}
		}
		for _, missing := range []string{"-", "...", "/", "0", "\x7f", strings.Repeat("~", 300)} {
			_, err := tree.Lookup(missing)
			require.Error(t, err, missing)
		}
	}
}

// TestLookupUnsorted: what a lookup does not find, or finds although another name is
// in its place, is in a tree that no walk and no listing accepts.
func TestLookupUnsorted(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	names := numbered(300, 240)
	for range 200 {
		mixed := slices.Clone(names)
		i, k := random.IntN(len(names)), random.IntN(len(names))
		if random.IntN(2) == 0 {
			mixed[i] = mixed[k] // one twice
		} else {
			mixed[i], mixed[k] = mixed[k], mixed[i]
		}
		b := craftV6(mixed)
		tree := opened(t, b)
		_, err := tree.Root().Entries()
		if i == k {
			require.NoError(t, err)
			continue
		}
		require.ErrorIs(t, err, rafs.ErrCorrupt)
		require.ErrorIs(t, readAll(b), rafs.ErrCorrupt)
		require.NotEmpty(t, problemsOf(b))
		if _, err := tree.Lookup(mixed[i]); err != nil {
			require.ErrorIs(t, err, fs.ErrNotExist)
		}
	}
}

// TestLookupDamaged: of a directory with a block that is none, whatever the lookups
// that do not come by it find, no walk and no listing is accepted.
func TestLookupDamaged(t *testing.T) {
	names := numbered(300, 240)
	whole := craftV6(names)
	first := bytes.Index(whole, []byte(names[0])) &^ (craftedBlock - 1)
	for at := first; at < len(whole); at += craftedBlock {
		b := bytes.Clone(whole)
		le.PutUint16(b[at+8:], 7)
		tree := opened(t, b)
		_, err := tree.Root().Entries()
		require.ErrorIs(t, err, rafs.ErrCorrupt)
		require.ErrorIs(t, readAll(b), rafs.ErrCorrupt)
		require.NotEmpty(t, problemsOf(b))
		failed := 0
		for _, name := range names {
			if _, err := tree.Lookup(name); err != nil {
				require.ErrorIs(t, err, rafs.ErrCorrupt)
				failed++
			}
		}
		assert.GreaterOrEqual(t, failed, 14, "those in the block")
	}
}

// directories are bootstraps with one directory of these names.
var directories = map[string]func(names []string) []byte{
	"v5": func(names []string) []byte {
		files := make([]testimage.CraftedFile, len(names))
		for k, name := range names {
			files[k] = testimage.CraftedFile{Path: name}
		}
		return craft(files...)
	},
	"v6": craftV6,
}

// TestLookupTime: a lookup of each name of a directory ten times as large takes ten
// times as long, and a bit.
func TestLookupTime(t *testing.T) {
	for version, bootstrap := range directories {
		t.Run(version, func(t *testing.T) {
			perName := func(count int) time.Duration {
				names := numbered(count, 240)
				tree := opened(t, bootstrap(names))
				best := time.Hour // the machine may have something else to do
				for range 3 {
					started := time.Now()
					for _, name := range names {
						_, err := tree.Lookup(name)
						require.NoError(t, err)
					}
					best = min(best, time.Since(started))
				}
				return best / time.Duration(count)
			}
			small, large := perName(10_000), perName(100_000)
			assert.Less(t, large, 4*small+10*time.Microsecond)
		})
	}
}

// BenchmarkLookup looks up a name in a directory of 100,000.
func BenchmarkLookup(b *testing.B) {
	for _, version := range []string{"v5", "v6"} {
		for _, size := range []int{12, 240} {
			b.Run(fmt.Sprintf("%s/names-of-%d", version, size), func(b *testing.B) {
				names := numbered(100_000, size)
				tree := opened(b, directories[version](names))
				b.ReportAllocs()
				k := 0
				for b.Loop() {
					if _, err := tree.Lookup(names[k]); err != nil {
						b.Fatal(err)
					}
					k = (k + 7919) % len(names)
				}
			})
		}
	}
}

// TestListsAreBounded: a list that many names share in the bootstrap counts for each of
// them, and so do the attributes.
func TestListsAreBounded(t *testing.T) {
	const names, chunks, inodesAt, entriesAt = 3, 32, 2 * craftedBlock, 3 * craftedBlock
	b := craftV6([]string{"a", "b", "c"})
	for n := range names {
		le.PutUint64(b[entriesAt+12*(2+n):], names*64/32) // all are the last inode, behind which there is room
	}
	le.PutUint64(b[inodesAt+names*64+8:], chunks<<20)
	le.PutUint32(b[inodesAt+names*64+16:], 0x28) // chunks of 1 MiB, indexed
	walk := func(b []byte, lists int64) (seen int, err error) {
		tree, err := openBytes(b)
		require.NoError(t, err)
		tree.Allow(rafs.DefaultNames, lists)
		return seen, tree.Walk(func(path string, i rafs.Inode) error { seen++; return nil })
	}
	const size = 80 * chunks
	_, err := walk(b, names*size)
	require.NoError(t, err)
	var limit *rafs.LimitError
	seen, err := walk(b, names*size-1)
	require.ErrorAs(t, err, &limit)
	assert.Equal(t, rafs.BoundMetadata, limit.Bound)
	assert.Equal(t, names, seen, "the root and all names but the last")

	real := load(t, "tree-v6/bootstrap")
	_, err = walk(real, rafs.DefaultMetadata)
	require.NoError(t, err)
	_, err = walk(real, 100)
	require.ErrorAs(t, err, &limit)
	for _, name := range []string{"tree-v5/bootstrap", "tree-v6/bootstrap"} {
		tree, err := openBytes(load(t, name))
		require.NoError(t, err)
		var files, attributes []rafs.Inode
		require.NoError(t, tree.Walk(func(_ string, i rafs.Inode) error {
			if list, _ := i.Chunks(); len(list) > 0 {
				files = append(files, i)
			}
			if all, _ := i.Xattrs(); len(all) > 0 {
				attributes = append(attributes, i)
			}
			return nil
		}))
		require.NotEmpty(t, files, name)
		require.NotEmpty(t, attributes, name)
		tree.Allow(rafs.DefaultNames, 79)
		_, err = files[0].Chunks()
		assert.ErrorAs(t, err, &limit, name)
		_, err = attributes[0].Xattrs()
		assert.ErrorAs(t, err, &limit, name)
	}
}
