package rafs_test

import (
	"io/fs"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// zeros stands in for a data blob: every chunk is a part of it.
type zeros []byte

func (z zeros) ReadChunk(c *rafs.Chunk) ([]byte, error) { return z[:c.UncompressedSize], nil }

// treeFS opens one of the two trees with its data.
func treeFS(t testing.TB, version string) fs.FS {
	return openSample(t, "tree-"+version+"/bootstrap").FS(plainBlob(load(t, "tree-"+version+"/blob")))
}

func TestFSHoldsTheContractOfIOFS(t *testing.T) {
	for _, version := range []string{"v5", "v6"} {
		fsys := treeFS(t, version)
		t.Run(version+"/whole", func(t *testing.T) {
			// TestFS opens symbolic links. Some of these lead nowhere, which is
			// all it may find.
			for _, line := range strings.Split(fstest.TestFS(fsys, "a/b", "names/bad\xffutf8").Error(), "\n")[1:] {
				assert.Regexp(t, `^links/(bytes|dangling|long|loop): Open: open `, line)
			}
		})
		t.Run(version+"/sub", func(t *testing.T) {
			for _, folder := range []string{"a", "data", "special", "modes", "xattrs"} {
				sub, err := fs.Sub(fsys, folder)
				require.NoError(t, err)
				require.NoError(t, fstest.TestFS(sub, firstName(t, sub)), folder)
			}
		})
		t.Run(version+"/parallel", func(t *testing.T) {
			var group sync.WaitGroup
			for range 8 {
				group.Go(func() {
					sub, err := fs.Sub(fsys, "data")
					if assert.NoError(t, err) {
						assert.NoError(t, fstest.TestFS(sub, "chunks", "zeros"))
					}
				})
			}
			group.Wait()
		})
	}
	t.Run("whole", func(t *testing.T) {
		fsys := openSample(t, "layers/layer3").FS(make(zeros, 1<<20))
		name := firstName(t, fsys)
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() { assert.NoError(t, fstest.TestFS(fsys, name)) })
		}
		group.Wait()
	})
}

// firstName returns a file that TestFS must find.
func firstName(t *testing.T, fsys fs.FS) string {
	t.Helper()
	entries, err := fs.ReadDir(fsys, ".")
	require.NoError(t, err)
	require.NotEmpty(t, entries)
	return entries[0].Name()
}

func TestFSFollowsSymlinksInsideTheTree(t *testing.T) {
	for _, version := range []string{"v5", "v6"} {
		fsys := treeFS(t, version)
		for _, test := range []struct {
			path string
			want string // a name in the directory, or the size, that Open leads to
			err  string
		}{
			{path: "links/absolute", want: "c"},
			{path: "links/relative", want: "d"},
			{path: "links/outside", want: "b"},
			{path: "links/outside/b/c", want: "d"},
			{path: "links/file", want: "20603"},
			{path: "links/chain", want: "20603"},
			{path: "links/dangling", err: "file does not exist"},
			{path: "links/file/x", err: "file does not exist"},
			{path: "links/loop", err: "too many levels of symbolic links"},
			{path: "links/../a", err: "invalid argument"},
			{path: "/a", err: "invalid argument"},
			{path: "", err: "invalid argument"},
			{path: "names/bad\xffutf8", want: "13"},
			{path: "names/new\nline", want: "11"},
			{path: "names", want: " sp"},
		} {
			info, err := fs.Stat(fsys, test.path)
			if test.err != "" {
				require.EqualError(t, err, "stat "+test.path+": "+test.err)
				_, err = fsys.Open(test.path)
				require.EqualError(t, err, "open "+test.path+": "+test.err)
				continue
			}
			require.NoError(t, err)
			if !info.IsDir() {
				content, err := fs.ReadFile(fsys, test.path)
				require.NoError(t, err, "%q", test.path)
				require.EqualValues(t, info.Size(), len(content))
				require.Equal(t, test.want, strconv.Itoa(len(content)))
				continue
			}
			entries, err := fs.ReadDir(fsys, test.path)
			require.NoError(t, err)
			require.Equal(t, test.want, entries[0].Name())
		}
		target, err := fs.ReadLink(fsys, "links/outside")
		require.NoError(t, err)
		assert.Equal(t, "../../../../a", target)
		_, err = fs.ReadLink(fsys, "data/one")
		require.ErrorIs(t, err, fs.ErrInvalid)
		info, err := fs.Lstat(fsys, "links/loop")
		require.NoError(t, err)
		assert.Equal(t, "Lrwxrwxrwx", info.Mode().String())
	}
}

func TestFileInfo(t *testing.T) {
	tree := openSample(t, "tree-v6/bootstrap")
	for path, want := range map[string]fs.FileMode{
		".":            fs.ModeDir | 0o755,
		"modes/4755":   fs.ModeSetuid | 0o755,
		"modes/2755":   fs.ModeSetgid | 0o755,
		"modes/7777":   fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky | 0o777,
		"modes/sticky": fs.ModeDir | fs.ModeSticky | 0o777,
		"special/chr":  fs.ModeDevice | fs.ModeCharDevice | 0o600,
		"special/blk":  fs.ModeDevice | 0o660,
		"special/fifo": fs.ModeNamedPipe | 0o644,
		"special/sock": fs.ModeSocket | 0o755,
		"links/loop":   fs.ModeSymlink | 0o777,
	} {
		inode := find(t, tree, path)
		info := inode.FileInfo("name")
		assert.Equal(t, want, info.Mode(), path)
		assert.Equal(t, inode, info.Sys())
	}
}

func TestLookupErrors(t *testing.T) {
	tree := openSample(t, "tree-v5/bootstrap")
	for path, want := range map[string]error{
		"nothing":                           fs.ErrNotExist,
		"many/9999":                         fs.ErrNotExist,
		"data/one/x":                        fs.ErrNotExist,
		"links/relative/d":                  fs.ErrNotExist,
		"..":                                fs.ErrInvalid,
		"a//b":                              fs.ErrInvalid,
		"a/":                                fs.ErrInvalid,
		"a/./b":                             fs.ErrInvalid,
		"":                                  fs.ErrInvalid,
		strings.Repeat("x/", 100_000) + "x": fs.ErrNotExist,
	} {
		_, err := tree.Lookup(path)
		require.ErrorIs(t, err, want)
		var pathError *fs.PathError
		require.ErrorAs(t, err, &pathError)
		assert.Equal(t, path, pathError.Path)
	}
}
