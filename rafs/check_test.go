package rafs_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"lukechampine.com/blake3"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// digestOf gives the digests that Check asks for.
func digestOf(d rafs.Digester, data []byte) [32]byte {
	if d == rafs.SHA256 {
		return sha256.Sum256(data)
	}
	return blake3.Sum256(data)
}

// problemsOf returns what Check reports of a bootstrap, or why it does not open.
func problemsOf(b []byte) []rafs.Problem {
	tree, err := openBytes(b)
	if err != nil {
		return []rafs.Problem{{Field: "open", Got: err.Error()}}
	}
	var problems []rafs.Problem
	_ = tree.Check(context.Background(), digestOf, func(p rafs.Problem) { problems = append(problems, p) })
	return problems
}

func TestCheckSamples(t *testing.T) {
	for _, sample := range samples {
		require.Empty(t, problemsOf(load(t, sample)), sample)
	}
}

// TestCheckWrongBlob: in this sample, made by nydus-image create
// --parent-bootstrap, chunks of the new blob are said to lie in the first, so that
// nydusd serves other files' bytes. Each file is named that the metadata alone
// shows to be wrong.
func TestCheckWrongBlob(t *testing.T) {
	all := found(problemsOf(load(t, "nmaster-parent/bootstrap")))
	for _, want := range []string{"big: chunk 0", "big: chunk 1", "big.copy: chunk 0", "etc/os-release: chunk 0", "shared1: chunk 0"} {
		require.Contains(t, all, want)
	}
}

// found lists problems as "path: field".
func found(problems []rafs.Problem) []string {
	var list []string
	for _, p := range problems {
		list = append(list, p.Path+": "+p.Field)
	}
	return list
}

// requireProblem fails unless Check finds what is wanted, and says of everything
// that it finds what it should be and what it is.
func requireProblem(t *testing.T, b []byte, want string) {
	t.Helper()
	tree, err := openBytes(b)
	require.NoError(t, err, "Open looks at less")
	var problems []rafs.Problem
	_ = tree.Check(context.Background(), digestOf, func(p rafs.Problem) { problems = append(problems, p) })
	require.Contains(t, found(problems), want)
	for _, p := range problems {
		require.NotEqual(t, p.Want, p.Got, p)
	}
}

// TestCheckV6 damages one thing at a time.
func TestCheckV6(t *testing.T) {
	const blobTable = 4096
	inode := func(path string, change func(r []byte)) func(t *testing.T, b []byte) {
		return func(t *testing.T, b []byte) { r := v6Inode(t, b, path); change(r[:cap(r)]) }
	}
	list := func(change func(l []byte)) func(t *testing.T, b []byte) {
		return inode("data/chunks", func(r []byte) { change(r[64:]) })
	}
	record := func(n int, change func(r []byte)) func(t *testing.T, b []byte) {
		return func(_ *testing.T, b []byte) { change(b[le.Uint64(b[1152+24:]):][80*n:]) }
	}
	plain := func(change func(b []byte)) func(t *testing.T, b []byte) {
		return func(_ *testing.T, b []byte) { change(b) }
	}
	// dirent gives the directory entry that leads to a path.
	dirent := func(path string, change func(e []byte, tree *rafs.Tree)) func(t *testing.T, b []byte) {
		return func(t *testing.T, b []byte) {
			tree := openSample(t, "tree-v6/bootstrap")
			change(v6Dirent(t, b, find(t, tree, path).Number), tree)
		}
	}
	swap := func(t *testing.T, b []byte, old, other string) {
		t.Helper()
		at := bytes.Index(b, []byte(old))
		require.Positive(t, at)
		copy(b[at:], other)
	}
	for _, test := range []struct {
		want   string
		change func(t *testing.T, b []byte)
	}{
		{": superblock checksum", plain(func(b []byte) { b[1024+4] = 1 })},
		{": superblock slots", plain(func(b []byte) { b[1024+13] = 1 })},
		{": superblock compression", plain(func(b []byte) { b[1024+84] = 1 })},
		{": superblock inodes", plain(func(b []byte) { b[1024+16]++ })},
		{": superblock blocks", plain(func(b []byte) { b[1024+36]++ })},
		{": superblock flags", plain(func(b []byte) { b[1152+6] = 1 })},
		{": superblock flags", plain(func(b []byte) { b[1152] &^= byte(rafs.FlagCompressorNone) })},
		{": superblock flags", plain(func(b []byte) { b[1152] &^= byte(rafs.FlagDigesterSHA256) })},
		{": device table", plain(func(b []byte) { b[1024+86] = 0 })},
		{": device table", plain(func(b []byte) { b[1024+88]++ })},
		{": device 0", plain(func(b []byte) { b[1408]++ })},
		{": device 0", plain(func(b []byte) { b[1408+64]++ })},
		{": blob table entry 0", plain(func(b []byte) { b[blobTable+96+5] = 0xff })},
		{": blob table entry 0", plain(func(b []byte) { b[blobTable+88+5] = 0xff })},
		{": blob table entry 0", plain(func(b []byte) { le.PutUint64(b[blobTable+96:], 4096) })},
		{": blob table entry 0", plain(func(b []byte) { b[blobTable+87] |= 0x80 })},
		{": blob table entry 0", plain(func(b []byte) { b[blobTable+84] |= byte(rafs.BlobSeparate) })},
		{": chunk table", plain(func(b []byte) {
			le.PutUint64(b[1152+24:], le.Uint64(b[1152+24:])+80)
			le.PutUint64(b[1152+32:], le.Uint64(b[1152+32:])-80)
		})},
		{": blob table", plain(func(b []byte) { copy(b[1288:], b[blobTable:][:256]); le.PutUint64(b[1152+8:], 1288) })},
		{": prefetch table", plain(func(b []byte) { le.PutUint64(b[1152+40:], 4096+256); b[1152+48] = 4; b[4096+256] = 9 })},
		{": prefetch table", plain(func(b []byte) { le.PutUint64(b[1152+40:], 1<<40); b[1152+48] = 4 })},
		{": prefetch table", plain(func(b []byte) { le.PutUint64(b[1152+40:], 4096+260); b[1152+48] = 4 })}, // found by FuzzAccepted
		{": prefetch table", plain(func(b []byte) { le.PutUint64(b[1152+40:], 4096); b[1152+48] = 4 })},

		{"data/chunks: links", inode("data/chunks", func(r []byte) { r[44]++ })},
		{"data/chunks: links", inode("data/chunks", func(r []byte) { r[44] = 0 })},
		{"a/hard3: links", inode("a/hard3", func(r []byte) { r[44] = 1 })},
		{"data: links", inode("data", func(r []byte) { r[44]++ })},
		{"data/chunks: mtime", inode("data/chunks", func(r []byte) { le.PutUint32(r[40:], 1e9) })},
		{"data/chunks: inode number", inode("data/chunks", func(r []byte) { le.PutUint32(r[20:], 3) })},
		{"data/chunks: inode number", inode("data/chunks", func(r []byte) { le.PutUint32(r[20:], 0) })},
		{"data/chunks: inode", inode("data/chunks", func(r []byte) { r[5] = 0xf0 })},
		{"data/chunks: inode", inode("data/chunks", func(r []byte) { le.PutUint64(r[8:], 1<<62) })},
		{"data/chunks: chunk 4", inode("data/chunks", func(r []byte) { le.PutUint64(r[8:], 20_000) })},
		{"data/chunks: chunks", inode("data/chunks", func(r []byte) { r[0] = 1 })},
		{"data/chunks: type in the directory", inode("data/chunks", func(r []byte) { r[5] = 0x11 })},
		{"emptydir: size", inode("emptydir", func(r []byte) { r[8]++ })},
		{"emptydir: entries", inode("emptydir", func(r []byte) { r[0] = 9 })},
		{"links/chain: target", inode("links/chain", func(r []byte) { r[66] = 0 })},
		{"links/chain: target", inode("links/chain", func(r []byte) { r[8] = 0 })},
		{"data/chunks: type in the directory", dirent("data/chunks", func(e []byte, _ *rafs.Tree) { e[10] = 2 })},
		{"emptydir: inode", dirent("emptydir", func(e []byte, tree *rafs.Tree) { le.PutUint64(e, tree.Root().Number) })},
		{"data/one: inode", dirent("data/one", func(e []byte, _ *rafs.Tree) { le.PutUint64(e, 1<<40) })},
		{`data: entry "."`, func(t *testing.T, b []byte) {
			i := find(t, openSample(t, "tree-v6/bootstrap"), "data")
			le.PutUint64(v6Inode(t, b, "data")[64:128], i.Number+1)
		}},
		{`data: entry ".."`, func(t *testing.T, b []byte) {
			le.PutUint64(v6Inode(t, b, "data")[64+12:128], 999)
		}},
		{`emptydir: entry ".."`, inode("emptydir", func(r []byte) { copy(r[64+24+1:], "zz") })},
		{"many: names", func(t *testing.T, b []byte) { swap(t, b, "00070008", "00090008") }},
		{"many: names", func(t *testing.T, b []byte) { swap(t, b, "00070008", "00080008") }},
		{"many: entry 10", func(t *testing.T, b []byte) { swap(t, b, "00070008", "0/070008") }},

		{"data/chunks: chunk 0", list(func(l []byte) { l[2] = 0 })},
		{"data/chunks: chunk 0", list(func(l []byte) { l[2] = 9 })},
		{"data/chunks: chunk 0", list(func(l []byte) { l[1] = 0xff })},
		{"data/chunks: chunk 0", list(func(l []byte) { l[6] = 0xff })},
		{"data/chunks: chunk 0", list(func(l []byte) { l[4]++ })},
		{"data/chunks: chunk 1", list(func(l []byte) { copy(l[8:16], l[40:48]) })},
		{": chunk table record 5", record(5, func(r []byte) { r[32] = 9 })},
		{": chunk table record 5", record(5, func(r []byte) { r[75] = 9 })},
		{": chunk table record 1", record(1, func(r []byte) { r[0] = 0 })},
		{": chunk table record 2", record(1, func(r []byte) { copy(r[:80], r[80:160]) })},
		{": chunk table record 0", record(0, func(r []byte) { r[72]++ })},
	} {
		t.Run(test.want, func(t *testing.T) {
			b := load(t, "tree-v6/bootstrap")
			test.change(t, b)
			if strings.HasPrefix(test.want, ": chunk table record") {
				// It depends on the digests which files have the chunk.
				requireRecordProblem(t, b, strings.TrimPrefix(test.want, ": "))
				return
			}
			requireProblem(t, b, test.want)
		})
	}
	t.Run("size", func(t *testing.T) { requireProblem(t, append(load(t, "tree-v6/bootstrap"), 0), ": size") })
}

// requireRecordProblem is requireProblem for a field, whatever path it has.
func requireRecordProblem(t *testing.T, b []byte, field string) {
	t.Helper()
	var fields []string
	for _, p := range problemsOf(b) {
		fields = append(fields, p.Field)
	}
	require.Contains(t, fields, field)
}

// TestCheckChunkRecords changes a field of a chunk's record: the file is named
// that has the chunk.
func TestCheckChunkRecords(t *testing.T) {
	for _, sample := range []string{"tree-v5/bootstrap", "tree-v6/bootstrap"} {
		for field, change := range map[string]func(r []byte){
			"size":                   func(r []byte) { le.PutUint32(r[44:], 0) },
			"large size":             func(r []byte) { le.PutUint32(r[44:], 1<<30) },
			"stored size":            func(r []byte) { le.PutUint32(r[40:], 17) },
			"stored offset":          func(r []byte) { le.PutUint64(r[48:], 1<<40) },
			"offset that wraps":      func(r []byte) { le.PutUint64(r[48:], 1<<64-8) },
			"stored elsewhere":       func(r []byte) { le.PutUint64(r[48:], le.Uint64(r[48:])+1) },
			"place":                  func(r []byte) { le.PutUint64(r[56:], 1<<40) },
			"place that wraps":       func(r []byte) { le.PutUint64(r[56:], 1<<64-4096) },
			"number":                 func(r []byte) { le.PutUint32(r[72:], 1<<20) },
			"another chunk's number": func(r []byte) { le.PutUint32(r[72:], (le.Uint32(r[72:])+1)%20) },
		} {
			t.Run(sample+" "+field, func(t *testing.T) {
				b := load(t, sample)
				tree := openSample(t, sample)
				chunks, err := find(t, tree, "data/chunks").Chunks()
				require.NoError(t, err)
				at := bytes.Index(b, chunks[2].Digest[:])
				require.Positive(t, at)
				change(b[at:])
				problems := problemsOf(b)
				require.NotEmpty(t, problems)
				require.Contains(t, strings.Join(found(problems), "\n"), "data/")
			})
		}
	}
}

// TestCheckV5 damages one thing at a time.
func TestCheckV5(t *testing.T) {
	inode := func(name string, change func(r []byte)) func(t *testing.T, b []byte) {
		return func(t *testing.T, b []byte) { change(v5Find(t, b, name)) }
	}
	plain := func(change func(b []byte)) func(t *testing.T, b []byte) {
		return func(_ *testing.T, b []byte) { change(b) }
	}
	for _, test := range []struct {
		want   string
		change func(t *testing.T, b []byte)
	}{
		{": superblock flags", plain(func(b []byte) { b[22] = 1 })},
		{": superblock flags", plain(func(b []byte) { b[16] &^= byte(rafs.FlagCompressorNone) })},
		{": superblock flags", plain(func(b []byte) { b[16] &^= byte(rafs.FlagDigesterSHA256) })},
		{": superblock flags", plain(func(b []byte) { b[17] |= byte(rafs.FlagTarfs >> 8) })},
		{": superblock inodes", plain(func(b []byte) { b[24] -= 2 })},
		{": inode table", plain(func(b []byte) { le.PutUint32(b[56:], le.Uint32(b[56:])+1) })},
		{": blob table", plain(func(b []byte) { le.PutUint64(b[48:], 8192); le.PutUint32(b[64:], 8); le.PutUint32(b[68:], 0) })},
		{": prefetch table", plain(func(b []byte) { le.PutUint64(b[40:], le.Uint64(b[48:])); le.PutUint32(b[60:], 1) })},
		{": prefetch table", plain(func(b []byte) { le.PutUint64(b[40:], 1<<40); le.PutUint32(b[60:], 1) })},
		{": parent of the root", plain(func(b []byte) { v5Inode(b, 1)[32] = 1 })},
		// What nydusd ended at or showed otherwise, found by FuzzAccepted.
		{": extended blob table", plain(func(b []byte) { b[72] += 4; le.PutUint32(b[68:], 0) })},
		{": prefetch table", plain(func(b []byte) { b[40] = 4 })},
		{": blob table entry 0", plain(func(b []byte) { b[le.Uint64(b[72:])+4] |= byte(rafs.BlobSeparate) })},
		{": blob table entry 0", plain(func(b []byte) { le.PutUint32(b[le.Uint64(b[72:]):], 1<<24+1) })},
		{": blob table entry 0", plain(func(b []byte) { le.PutUint64(b[le.Uint64(b[72:])+8:], 1<<44-1) })},
		{"data/chunks: owner", inode("chunks", func(r []byte) { le.PutUint32(r[48:], 1<<32-1) })},
		{"data/chunks: owner", inode("chunks", func(r []byte) { le.PutUint32(r[52:], 1<<32-1) })},
		{"data/chunks: owner", plain(func(b []byte) {
			b[16] &^= byte(rafs.FlagExplicitUIDGID)
			for node := uint32(1); ; node++ {
				if r := v5Inode(b, node); string(r[128:134]) == "chunks" {
					r[48] = 1
					return
				}
			}
		})},
		{"data/chunks: name", inode("chunks", func(r []byte) { r[100] = 8 })},
		{".: digest", plain(func(b []byte) { v5Inode(b, 1)[0]++ })},
		{".: digest", inode("data", func(r []byte) { r[0]++ })},
		{"data: digest", inode("data", func(r []byte) { r[0]++ })},
		{"data/chunks: digest", inode("chunks", func(r []byte) { r[31]++ })},
		{"data/chunks: digest", inode("chunks", func(r []byte) { r[128+8+80]++ })},
		{"links/chain: digest", inode("chain", func(r []byte) { copy(r[128+8:], "f1le") })},
		{"data/chunks: parent", inode("chunks", func(r []byte) { r[32]++ })},
		{"data/chunks: inode number", inode("chunks", func(r []byte) { le.PutUint64(r[40:], 1<<60) })},
		{"data/chunks: inode number", inode("chunks", func(r []byte) { le.PutUint64(r[40:], 0) })},
		{"a: inode number", inode("a", func(r []byte) { r[40]++ })},
		{"links/hard2: inode number", plain(func(b []byte) { // a name that is not the first
			for node := uint32(1); ; node++ {
				if r := v5Inode(b, node); string(r[128:133]) == "hard1" {
					le.PutUint64(v5Inode(b, node+1)[40:], uint64(node))
					return
				}
			}
		})},
		{"links/hard2: hard link", inode("hard2", func(r []byte) { r[48]++ })},
		{"a/hard3: links", inode("hard2", func(r []byte) { le.PutUint64(r[40:], 0) })},
		{"data/chunks: links", inode("chunks", func(r []byte) { r[88]++ })},
		{"data: links", inode("data", func(r []byte) { r[88]++ })},
		{"data/chunks: inode flags", inode("chunks", func(r []byte) { r[80] |= 1 })},
		{"data/chunks: inode flags", inode("chunks", func(r []byte) { r[84] |= 1 })},
		{"data/chunks: mtime", inode("chunks", func(r []byte) { le.PutUint32(r[108:], 1e9) })},
		{"data/chunks: mode", inode("chunks", func(r []byte) { r[62] = 1 })},
		{"data/chunks: chunks", inode("chunks", func(r []byte) { r[96]-- })},
		{"data/chunks: chunk 5", inode("chunks", func(r []byte) { r[64]-- })},
		{"data/chunks: chunk 2", inode("chunks", func(r []byte) { r[128+8+160+64+1]++ })},
		{"data/chunks: chunk 2", inode("chunks", func(r []byte) { r[128+8+160+32]++ })},
		{"data/empty: chunk 0", inode("empty", func(r []byte) { r[96]++ })},
		{"links/chain: size", inode("chain", func(r []byte) { r[64]++ })},
		{"links/chain: target", inode("chain", func(r []byte) { r[102] = 0 })},
		{"data: inode", inode("data", func(r []byte) { le.PutUint32(r[92:], 1<<31) })},
		{"data: inode table", inode("data", func(r []byte) { le.PutUint32(r[92:], 12) })},
		{"many: names", inode("0007", func(r []byte) { copy(r[128:], "0003") })},
		{"many: names", inode("0007", func(r []byte) { copy(r[128:], "0006") })},
		{"many: entry 8", inode("0007", func(r []byte) { copy(r[128:], "0/07") })},
		{"data: entry 5", plain(func(b []byte) {
			for node := uint32(1); ; node++ {
				if r := v5Inode(b, node); string(r[128:131]) == "one" {
					le.PutUint32(b[le.Uint64(b[32:])+4*uint64(node-1):], 1<<31)
					return
				}
			}
		})},
		{"many/0007: inode", plain(func(b []byte) { // that of another name
			table := b[le.Uint64(b[32:]):]
			for node := uint32(1); ; node++ {
				if r := v5Inode(b, node); string(r[128:132]) == "0008" {
					le.PutUint32(table[4*(node-1):], le.Uint32(table[4*(node-2):]))
					return
				}
			}
		})},
	} {
		t.Run(test.want, func(t *testing.T) {
			b := load(t, "tree-v5/bootstrap")
			test.change(t, b)
			requireProblem(t, b, test.want)
		})
	}
	t.Run("size", func(t *testing.T) { requireProblem(t, append(load(t, "tree-v5/bootstrap"), 0), ": size") })
}

// TestCheckXattrs damages extended attributes.
func TestCheckXattrs(t *testing.T) {
	for _, sample := range []string{"tree-v5/bootstrap", "tree-v6/bootstrap"} {
		t.Run(sample, func(t *testing.T) {
			tree := openSample(t, sample)
			var path, name string
			require.NoError(t, tree.Walk(func(p string, i rafs.Inode) error {
				xattrs, err := i.Xattrs()
				for n := range xattrs {
					if strings.HasPrefix(n, "user.") && len(n) > 6 && name == "" {
						path, name = p, n
					}
				}
				return err
			}))
			require.NotEmpty(t, name)
			flags := 1152
			if strings.Contains(sample, "v5") {
				flags = 16
			}
			b := load(t, sample)
			b[flags] &^= byte(rafs.FlagHasXattr)
			requireProblem(t, b, path+": extended attributes")

			b = load(t, sample)
			if flags == 16 {
				at := bytes.Index(b, []byte(name))
				require.Positive(t, at)
				b[at] = 'x' // another namespace
			} else {
				suffix := strings.TrimPrefix(name, "user.")
				at := bytes.LastIndex(b, []byte(suffix))
				require.Equal(t, []byte{byte(len(suffix)), 1}, b[at-4:at-2])
				b[at-3] = 5 // an index without a name
			}
			requireProblem(t, b, path+": extended attributes")
		})
	}
}

// TestCheckReportsAll: what is damaged does not hide the rest.
func TestCheckReportsAll(t *testing.T) {
	b := load(t, "tree-v6/bootstrap")
	b[1024+4] = 1
	v6Inode(t, b, "links/chain")[64:128][2] = 0
	v6Inode(t, b, "a")[44]++
	v6Inode(t, b, "data")[0] = 9 // what is below it cannot be listed
	all := found(problemsOf(b))
	for _, want := range []string{": superblock checksum", "a: links", "data: entries", "links/chain: target"} {
		require.Contains(t, all, want)
	}
}

// TestCheckDeepTree: a path that is too long is reported, and what is beside it
// still checked.
func TestCheckDeepTree(t *testing.T) {
	problems := problemsOf(v5Chain(100_000))
	require.NotEmpty(t, problems)
	long := false
	for _, p := range problems {
		long = long || strings.Contains(p.Got, "its path has more than")
	}
	require.True(t, long)
}

// TestCheckSharedData: directories that share their entries do not multiply the
// work.
func TestCheckSharedData(t *testing.T) {
	b := load(t, "tree-v6/bootstrap")
	many, data := v6Inode(t, b, "many"), v6Inode(t, b, "emptydir")
	copy(data[:20], many[:20]) // the same blocks
	requireProblem(t, b, "many: data blocks")
}

// TestXattrNameWithNUL: where names are listed, a NUL ends one. FuzzMutated found
// that v6 gave such a name.
func TestXattrNameWithNUL(t *testing.T) {
	b := load(t, "tree-v6/bootstrap")
	_, inodes := paths(t, openSample(t, "tree-v6/bootstrap"))
	for path, i := range inodes {
		xattrs, err := i.Xattrs()
		require.NoError(t, err)
		for name := range xattrs {
			suffix, ok := strings.CutPrefix(name, "user.")
			if !ok || len(suffix) < 2 {
				continue
			}
			at := bytes.Index(v6Inode(t, b, path)[:512:512], []byte(suffix))
			if at < 0 {
				continue
			}
			v6Inode(t, b, path)[:512:512][at] = 0
			tree, err := openBytes(b)
			require.NoError(t, err)
			_, err = find(t, tree, path).Xattrs()
			require.ErrorIs(t, err, rafs.ErrCorrupt)
			require.ErrorContains(t, err, "NUL byte")
			return
		}
	}
	t.Fatal("the sample has no such attribute")
}
