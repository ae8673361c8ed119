package consistency

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
)

// chunks is content of three chunks, the last of them short.
func chunks() []byte { return bytes.Repeat([]byte("0123456789abcdef"), (2<<20+4096)/16) }

// plain is an image with one of each.
func plain() testimage.Spec {
	return testimage.Spec{Name: "plain", Layers: []testimage.Layer{
		{
			testimage.Dir("dir").WithMode(0o750), testimage.Text("dir/file", "content\n").WithOwner(1, 2), testimage.Text("gone", "x\n"),
			testimage.Sym("symlink", "dir/file"), testimage.Char("char", 1, 3), testimage.Block("block", 8, 0), testimage.Pipe("fifo"),
			testimage.Text("one", "x\n"), testimage.Hard("two", "one"), testimage.Hard("three", "one"),
			testimage.Exec("attributes", []byte("x\n")).WithXattr("user.x", "value").WithXattr("security.capability", capability),
			testimage.Reg("chunks", chunks()), testimage.Reg("empty", nil).WithMode(0o600),
		},
		{testimage.Text("upper", "x\n"), testimage.Whiteout("gone")},
	}}
}

// alter changes a file of the lowest layer.
func alter(s testimage.Spec, path string, change func(f *testimage.File)) testimage.Spec {
	for i := range s.Layers[0] {
		if s.Layers[0][i].Path == path {
			change(&s.Layers[0][i])
		}
	}
	return s
}

// TestFindsEachField compares images that differ in one field alone.
func TestFindsEachField(t *testing.T) {
	type change = func(f *testimage.File)
	for _, test := range []struct {
		name, path string
		alter      change
		want       []string // path and field of all that is found
	}{
		{"type", "empty", func(f *testimage.File) { f.Type = testimage.FIFO }, []string{"empty type"}},
		{"size", "dir/file", func(f *testimage.File) { f.Data = []byte("content") }, []string{"dir/file size"}},
		{"permissions", "dir/file", func(f *testimage.File) { f.Mode = 0o640 }, []string{"dir/file mode"}},
		{"setuid", "dir/file", func(f *testimage.File) { f.Mode |= 0o4000 }, []string{"dir/file mode"}},
		{"setgid", "dir/file", func(f *testimage.File) { f.Mode |= 0o2000 }, []string{"dir/file mode"}},
		{"sticky", "dir", func(f *testimage.File) { f.Mode |= 0o1000 }, []string{"dir mode"}},
		{"uid", "dir/file", func(f *testimage.File) { f.UID = 3 }, []string{"dir/file uid"}},
		{"gid", "dir/file", func(f *testimage.File) { f.GID = 3 }, []string{"dir/file gid"}},
		{"major", "char", func(f *testimage.File) { f.Major = 2 }, []string{"char rdev"}},
		{"minor", "block", func(f *testimage.File) { f.Minor = 300 }, []string{"block rdev"}},
		{"symlink", "symlink", func(f *testimage.File) { f.Link = "dir/fill" }, []string{"symlink symlink"}},
		{"mtime", "dir/file", func(f *testimage.File) { f.ModTime = testimage.DefaultTime.Add(time.Second) }, []string{"dir/file mtime"}},
		{"mtime of a directory", "dir", func(f *testimage.File) { f.ModTime = testimage.DefaultTime.Add(-time.Second) }, []string{"dir mtime"}},
		{"mtime of a link", "symlink", func(f *testimage.File) { f.ModTime = time.Unix(1, 0) }, []string{"symlink mtime"}},
		{"nanoseconds", "dir/file", func(f *testimage.File) { f.ModTime = testimage.DefaultTime.Add(1) }, []string{"dir/file mtime"}},
		{"xattr value", "attributes", func(f *testimage.File) { *f = f.WithXattr("user.x", "valuE") }, []string{"attributes xattr user.x"}},
		{"xattr missing", "dir", func(f *testimage.File) { *f = f.WithXattr("user.y", "") }, []string{"dir xattr user.y"}},
		{"xattr extra", "attributes", func(f *testimage.File) { delete(f.Xattrs, "security.capability") }, []string{"attributes xattr security.capability"}},
		{"hard links", "three", func(f *testimage.File) { *f = testimage.Text("three", "x\n") },
			[]string{"one hard links", "three hard links", "two hard links"}},
		{"first byte", "chunks", func(f *testimage.File) { f.Data[0]++ }, []string{"chunks content from byte 0 on, in chunk 1 of 3"}},
		{"last byte", "chunks", func(f *testimage.File) { f.Data[len(f.Data)-1]++ }, []string{"chunks content from byte 2097152 on, in chunk 3 of 3"}},
		{"two chunks", "chunks", func(f *testimage.File) { f.Data[1<<20]++; f.Data[2<<20]++ },
			[]string{"chunks content from byte 1048576 on, in chunk 2 of 3; 2 chunks differ"}},
		{"missing", "dir/file", func(f *testimage.File) { f.Path = "dir/fill" }, []string{"dir/file extra", "dir/fill missing"}},
		{"nothing", "", nil, nil},
	} {
		for _, version := range []string{"5", "6"} {
			t.Run(test.name+"/v"+version, func(t *testing.T) {
				images := pairOf(t, alter(plain(), test.path, test.alter), plain(), testimage.ConvertOptions{FSVersion: version})
				result := checkFilesystem(t.Context(), images, Options{}, new(Counts))
				require.NoError(t, result.Err)
				var found []string
				for _, d := range result.Differences {
					text := d.Path + " " + d.Field
					if d.Detail != "" {
						text += " " + d.Detail
					}
					found = append(found, text)
					assert.Equal(t, d.Field == "extra", d.Source == nil)
					assert.Equal(t, d.Field == "missing", d.Target == nil)
				}
				assert.Equal(t, test.want, found)
				assert.Empty(t, result.Notes)
			})
		}
	}
}

// TestDepthNoneComparesNoContent finds what differs but the content.
func TestDepthNoneComparesNoContent(t *testing.T) {
	source := alter(plain(), "chunks", func(f *testimage.File) { f.Data[0]++ })
	source = alter(source, "dir", func(f *testimage.File) { f.Mode = 0 })
	images := pairOf(t, source, plain(), testimage.ConvertOptions{})
	var counts Counts
	result := checkFilesystem(t.Context(), images, Options{Data: DepthNone}, &counts)
	require.NoError(t, result.Err)
	require.Len(t, result.Differences, 1)
	assert.Equal(t, "mode", result.Differences[0].Field)
	assert.Zero(t, counts.Files)
	assert.NotZero(t, counts.LayerBytes)
}

// TestRoot compares the root directory, too.
func TestRoot(t *testing.T) {
	root := func(layer int, dir testimage.File) testimage.Spec {
		s := plain()
		s.Layers[layer] = append(testimage.Layer{dir}, s.Layers[layer]...)
		return s
	}
	for _, test := range []struct {
		name           string
		source, target testimage.Spec
		differences    []string
		notes          string
	}{
		{"named on top", root(1, testimage.Dir(".").WithMode(0o700)), root(1, testimage.Dir(".").WithMode(0o700)), nil, ""},
		{"named below", root(0, testimage.Dir(".").WithMode(0o700)), root(0, testimage.Dir(".").WithMode(0o700)), nil, "uppermost layer"},
		{"another mode", plain(), root(1, testimage.Dir(".").WithMode(0o777)), []string{"mode"}, ""},
		{"another owner", root(1, testimage.Dir(".")), root(1, testimage.Dir(".").WithOwner(1, 2)), []string{"gid", "uid"}, ""},
		{"another attribute", root(1, testimage.Dir(".").WithXattr("user.a", "b")), root(1, testimage.Dir(".")), []string{"xattr user.a"}, ""},
	} {
		for _, version := range []string{"5", "6"} {
			t.Run(test.name+"/v"+version, func(t *testing.T) {
				result := checkFilesystem(t.Context(), pairOf(t, test.source, test.target, testimage.ConvertOptions{FSVersion: version}), Options{}, new(Counts))
				require.NoError(t, result.Err)
				var found []string
				for _, d := range result.Differences {
					assert.Equal(t, ".", d.Path)
					found = append(found, d.Field)
				}
				assert.Equal(t, test.differences, found)
				var notes []string
				for _, n := range result.Notes {
					notes = append(notes, n.Text)
				}
				t.Log(notes)
				assert.Equal(t, test.notes != "", slices.ContainsFunc(notes, func(n string) bool { return strings.Contains(n, test.notes) }) && test.notes != "")
			})
		}
	}
}
