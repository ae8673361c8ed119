//go:build linux

package inspect_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/consistency"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/inspect"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
)

// mounted collects what a mount by nydusd shows.
func mounted(t *testing.T, dir string) (paths []string, nodes map[string]consistency.Node) {
	t.Helper()
	nodes = make(map[string]consistency.Node)
	require.NoError(t, consistency.Dir(dir).Walk(func(n consistency.Node) error {
		name := "/" + n.Path
		if n.Path == "." {
			name = "/"
		}
		paths = append(paths, name)
		nodes[name] = n
		return nil
	}))
	slices.Sort(paths)
	return paths, nodes
}

// TestShowsWhatNydusdShows compares find, ls, stat and cat with a mount by the
// real nydusd, for every path.
func TestShowsWhatNydusdShows(t *testing.T) {
	for _, version := range versions {
		t.Run("v"+version, func(t *testing.T) {
			i := open(t, testimage.Odd(t), testimage.ConvertOptions{FSVersion: version})
			dir := testimage.Mount(t, i.BootstrapPath, i.BlobDir)
			paths, nodes := mounted(t, dir)

			var found, listed []string
			for _, n := range document[[]inspect.Node](t, i.Session, "find", "/") {
				found = append(found, fullPath(n))
				assertNode(t, nodes[fullPath(n)], n)
				if n.Type == "directory" {
					for _, child := range document[[]inspect.Node](t, i.Session, "ls", fullPath(n)) {
						assertNode(t, nodes[fullPath(child)], child)
						listed = append(listed, fullPath(child))
					}
				}
			}
			slices.Sort(found)
			slices.Sort(listed)
			assert.Equal(t, paths, found)
			assert.Equal(t, paths[1:], listed, "all but the root")

			for _, name := range paths {
				stat := document[inspect.Stat](t, i.Session, "stat", name)
				want := nodes[name]
				assertNode(t, want, stat.Node)
				got := make(map[string][]byte)
				for _, x := range stat.Xattrs {
					got[x.Name] = []byte(x.Value)
					if x.ValueBase64 != nil {
						got[x.Name] = x.ValueBase64
					}
				}
				assert.Equal(t, want.Xattrs, got, name)
				if want.Mode&unix.S_IFMT != unix.S_IFREG {
					continue
				}
				assert.Len(t, stat.OtherPaths, int(want.Links)-1, name)
				for _, other := range stat.OtherPaths {
					assert.Equal(t, want.Inode, nodes[other.Path].Inode)
				}
				content, err := os.ReadFile(filepath.Join(dir, name))
				require.NoError(t, err)
				require.True(t, string(content) == text(t, i.Session, "cat", name), "content of %s", name)
			}
		})
	}
}

// assertNode compares a node with what nydusd shows.
func assertNode(t *testing.T, want consistency.Node, n inspect.Node) {
	t.Helper()
	name := fullPath(n)
	require.NotEmpty(t, want.Path, "nydusd shows no %q", name)
	types := map[string]uint32{
		"file": unix.S_IFREG, "directory": unix.S_IFDIR, "symlink": unix.S_IFLNK, "character device": unix.S_IFCHR,
		"block device": unix.S_IFBLK, "fifo": unix.S_IFIFO, "socket": unix.S_IFSOCK,
	}
	assert.Equal(t, want.Mode&unix.S_IFMT, types[n.Type], name)
	assert.Equal(t, fmt.Sprintf("%04o", want.Mode&0o7777), n.Mode, name)
	assert.Equal(t, [2]uint32{want.UID, want.GID}, [2]uint32{n.UID, n.GID}, name)
	if n.Type == "file" || n.Type == "symlink" {
		assert.Equal(t, want.Size, n.Size, name)
	}
	if n.MTime != 0 { // nydusd shows its own start time for 0
		assert.Equal(t, [2]int64{want.MTime.Unix(), int64(want.MTime.Nanosecond())}, [2]int64{n.MTime, int64(n.MTimeNsec)}, name)
	}
	if n.Device != "" {
		assert.Equal(t, fmt.Sprintf("%d:%d", want.Rdev>>32, uint32(want.Rdev)), n.Device, name)
	}
	assert.Equal(t, want.Target, n.Target, name)
	if n.Type != "directory" {
		assert.Equal(t, want.Links, uint64(n.Links), name)
	}
}

// TestExport extracts exported archives by GNU tar and compares them with what
// nydusd shows.
func TestExport(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIPPED, NOTHING WAS COMPARED: only root can extract devices and owners")
	}
	for _, version := range versions {
		i := open(t, testimage.Odd(t), testimage.ConvertOptions{FSVersion: version})
		dir := testimage.Mount(t, i.BootstrapPath, i.BlobDir)
		for _, top := range []string{"/", "/hard", "/names", "/xattr/user", "/chunks"} {
			t.Run("v"+version+top, func(t *testing.T) {
				file, out := filepath.Join(t.TempDir(), "out.tar"), t.TempDir()
				done := document[inspect.Export](t, i.Session, "export", top, "-o", file)
				assert.Equal(t, top, done.Path.Path)
				assert.NoFileExists(t, file+".partial")
				extract(t, file, out)
				want, got := consistency.Dir(filepath.Join(dir, top)), consistency.Dir(out)
				if top == "/xattr/user" { // a file, which is extracted under its name
					got = consistency.Dir(filepath.Join(out, "user"))
				}
				differences, err := consistency.Compare(want, got)
				require.NoError(t, err)
				for _, d := range differences {
					if d.Field == "mtime" && strings.HasPrefix(d.Got, "1970-01-01 00:00:00 ") {
						continue // nydusd shows its own start time for 0
					}
					t.Error(d)
				}
				assert.Equal(t, entries(t, out), done.Entries)
			})
		}
	}
}

// entries counts the paths of a folder, or of the one file that is in it.
func entries(t *testing.T, dir string) int {
	t.Helper()
	paths, nodes := mounted(t, dir)
	if n, ok := nodes["/user"]; ok && n.Mode&unix.S_IFMT == unix.S_IFREG && len(paths) == 2 {
		return 1
	}
	return len(paths)
}

func extract(t *testing.T, file, dir string) {
	t.Helper()
	output, err := exec.Command("tar", "-x", "--warning=no-timestamp", "--xattrs", "--xattrs-include=*", "--numeric-owner", "--same-owner", "-p", "-f", file, "-C", dir).CombinedOutput()
	require.NoError(t, err, "%s", output)
	require.Empty(t, string(output))
}

// TestExportToOutput: "-o -" gives the same archive.
func TestExportToOutput(t *testing.T) {
	i := open(t, testimage.Odd(t), testimage.ConvertOptions{})
	file := filepath.Join(t.TempDir(), "out.tar")
	text(t, i.Session, "export", "-o", file, "/")
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.True(t, string(want) == text(t, i.Session, "export", "-o", "-", "/"))
	_, _, err = ask(t.Context(), i.Session, "export", "-o", "-", "/")
	assert.ErrorContains(t, err, "no JSON document")
}

// TestCatRanges compares parts of files, in chunks and over their borders.
func TestCatRanges(t *testing.T) {
	i := open(t, testimage.Odd(t), testimage.ConvertOptions{ChunkSize: 0x1000})
	whole := text(t, i.Session, "cat", "/chunks/noise")
	size := len(whole)
	for spec, want := range map[string]string{
		"0-0": whole[:1], "0-": whole, "-1": whole[size-1:], "-5000": whole[size-5000:], "4095-4096": whole[4095:4097],
		"4096-8191": whole[4096:8192], "1000-20000": whole[1000:20001],
		fmt.Sprintf("%d-%d", size-1, size+100): whole[size-1:], fmt.Sprintf("%d-", size): "", "-99999999999": whole, "-0": "",
	} {
		assert.True(t, want == text(t, i.Session, "cat", "--range", spec, "/chunks/noise"), "%s", spec)
		content := document[inspect.Content](t, i.Session, "cat", "--range", spec, "/chunks/noise")
		assert.Equal(t, int64(len(want)), content.Length, spec)
		data := content.DataBase64
		if content.Data != nil {
			data = []byte(*content.Data)
		}
		assert.True(t, bytes.Equal([]byte(want), data), "%s: %s", spec, base64.StdEncoding.EncodeToString(data[:min(len(data), 30)]))
	}
	for _, spec := range []string{"", "-", "a-b", "5", "9-3", "1-2-3", "--1", "0x1-2", "99999999999999999999-"} {
		_, _, err := ask(t.Context(), i.Session, "cat", "--range="+spec, "/chunks/noise")
		var wrong *inspect.UsageError
		if spec == "" {
			require.NoError(t, err)
			continue
		}
		assert.ErrorAs(t, err, &wrong, spec)
	}
}
