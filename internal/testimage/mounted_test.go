//go:build linux

package testimage_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
)

// TestMountShowsLayers compares what nydusd shows of a converted image with what Flatten says of the layers: every
// path, both ways.
func TestMountShowsLayers(t *testing.T) {
	for _, version := range []string{"5", "6"} {
		for _, compressor := range []string{"zstd", "lz4_block", "none"} {
			t.Run("v"+version+"/"+compressor, func(t *testing.T) {
				spec := testimage.Odd(t)
				nydus := testimage.Convert(t, testimage.BuildOCI(t, spec),
					testimage.ConvertOptions{FSVersion: version, Compressor: compressor})
				root := testimage.Mount(t, nydus.BootstrapPath, nydus.BlobDir)
				compareTree(t, root, testimage.Flatten(spec.Layers...))
			})
		}
	}
}

var timeField = regexp.MustCompile(` time \d+ `)

func compareTree(t *testing.T, root string, want map[string]testimage.File) {
	t.Helper()
	for path, file := range want {
		got, expected := mounted(t, filepath.Join(root, path)), described(file)
		if at := file.ModTime; !at.IsZero() && at.Unix() == 0 {
			got = timeField.ReplaceAllString(got, " time 0 ") // nydusd shows its own start time instead
		}
		if got != expected {
			t.Errorf("%q: expected\n  %s\ncame\n  %s", path, expected, got)
		}
	}
	err := filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		if rel, _ := filepath.Rel(root, path); want[rel].Path == "" {
			t.Errorf("%q: shown by the mount, expected not to be there", rel)
		}
		return nil
	})
	if err != nil {
		t.Errorf("walk the mount: %v", err)
	}
}

// described says of a file what mounted says of it when it is mounted.
func described(f testimage.File) string {
	types := map[testimage.Type]uint32{testimage.Regular: unix.S_IFREG, testimage.Directory: unix.S_IFDIR,
		testimage.Symlink: unix.S_IFLNK, testimage.CharDev: unix.S_IFCHR, testimage.BlockDev: unix.S_IFBLK,
		testimage.FIFO: unix.S_IFIFO}
	at := f.ModTime
	if at.IsZero() {
		at = testimage.DefaultTime
	}
	content := ""
	switch f.Type {
	case testimage.Regular:
		content = fmt.Sprintf("%d bytes %x", len(f.Data), sum(f.Data))
	case testimage.Symlink:
		content = "-> " + f.Link
	case testimage.CharDev, testimage.BlockDev:
		content = fmt.Sprintf("device %d:%d", f.Major, f.Minor)
	}
	return fmt.Sprintf("mode %o owner %d:%d time %d xattrs %q %s",
		types[f.Type]|uint32(f.Mode), f.UID, f.GID, at.Unix(), f.Xattrs, content)
}

func mounted(t *testing.T, path string) string {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return err.Error()
	}
	content := ""
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		data, err := os.ReadFile(path)
		if err != nil {
			return err.Error()
		}
		content = fmt.Sprintf("%d bytes %x", len(data), sum(data))
	case unix.S_IFLNK:
		target, err := os.Readlink(path)
		if err != nil {
			return err.Error()
		}
		content = "-> " + target
	case unix.S_IFCHR, unix.S_IFBLK:
		content = fmt.Sprintf("device %d:%d", unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev)))
	}
	return fmt.Sprintf("mode %o owner %d:%d time %d xattrs %q %s",
		st.Mode, st.Uid, st.Gid, st.Mtim.Sec, xattrs(t, path), content)
}

func xattrs(t *testing.T, path string) map[string]string {
	names := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, names)
	if err != nil {
		t.Errorf("list the extended attributes of %q: %v", path, err)
		return nil
	}
	var out map[string]string
	for name := range strings.SplitSeq(strings.TrimRight(string(names[:n]), "\x00"), "\x00") {
		if name == "" {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			t.Errorf("read the extended attribute %s of %q: %v", name, path, err)
			continue
		}
		if out == nil {
			out = map[string]string{}
		}
		out[name] = string(value[:n])
	}
	return out
}
