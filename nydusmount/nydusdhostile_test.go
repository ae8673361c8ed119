//go:build linux

package nydusmount_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// edited stores an image of RAFS v5 with another bootstrap in a layout and opens it.
func edited(t *testing.T, n *testimage.Nydus, edit func(superblock []byte), o nydusimage.Options) (image *nydusimage.Image, folder string) {
	t.Helper()
	boot, err := os.ReadFile(n.BootstrapPath)
	require.NoError(t, err)
	if edit != nil {
		edit(boot)
	}
	folder = t.TempDir()
	testimage.WriteLayout(t, folder, map[string]any{"nydus": testimage.Wrap(t, n, testimage.Wrapping{Bootstrap: boot})})
	return opened(t, folder, o), folder
}

// editFlags changes the flags in a superblock of RAFS v5.
func editFlags(clear, set uint64) func([]byte) {
	return func(b []byte) {
		binary.LittleEndian.PutUint64(b[16:], binary.LittleEndian.Uint64(b[16:])&^clear|set)
	}
}

// TestNydusdTakesNoOtherBootstrap: of a bootstrap that it refuses, nydusd takes the one
// in a blob that the backend calls as our file is called.
func TestNydusdTakesNoOtherBootstrap(t *testing.T) {
	dir := temp(t)
	spec := testimage.Spec{Name: "other", Layers: []testimage.Layer{{testimage.Text("a", "the content")}}}
	n := testimage.Convert(t, testimage.BuildOCI(t, spec), testimage.ConvertOptions{FSVersion: "5"})
	for name, edit := range map[string]func([]byte){"its own": nil, "refused": editFlags(0, 0x400)} {
		t.Run(name, func(t *testing.T) {
			image, _ := edited(t, n, edit, nydusimage.Options{})
			blobs := t.TempDir()
			for _, name := range []string{n.Blobs[0].Digest.Hex, "bootstrap"} {
				require.NoError(t, os.Symlink(n.Blobs[0].Path, filepath.Join(blobs, name)))
			}
			daemon, err := nydusmount.StartDaemon(t.Context(), image, nydusmount.Options{Program: testimage.Tools(t).Nydusd, Backend: localfs(t, blobs)})
			if edit == nil {
				require.NoError(t, err)
				require.NoError(t, daemon.Close())
			} else if !assert.ErrorIs(t, err, nydusmount.ErrNydusd) {
				daemon.Close()
			}
			assertGone(t, dir)
		})
	}
}

// TestNydusdDoesNotVerifyGzip: it gives bytes that are not those of their digest, and
// the mount says so.
func TestNydusdDoesNotVerifyGzip(t *testing.T) {
	temp(t)
	spec := testimage.Spec{Name: "plain", Layers: []testimage.Layer{{testimage.Text("a", "the content")}}}
	n := testimage.Convert(t, testimage.BuildOCI(t, spec), testimage.ConvertOptions{FSVersion: "5", Compressor: "none"})
	stored, err := os.ReadFile(n.Blobs[0].Path)
	require.NoError(t, err)
	blobs := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(blobs, n.Blobs[0].Digest.Hex), bytes.Replace(stored, []byte("the content"), []byte("THE CONTENT"), 1), 0o600))
	for name, c := range map[string]struct {
		edit     func([]byte)
		verified nydusmount.Verification
	}{
		"none": {nil, nydusmount.VerifiedByNydusd},
		"gzip": {editFlags(0x1, 0x40), nydusmount.NotVerifiedGzip},
	} {
		t.Run(name, func(t *testing.T) {
			image, _ := edited(t, n, c.edit, nydusimage.Options{})
			mount, err := nydusmount.Nydusd(t.Context(), image, nydusmount.Options{Program: testimage.Tools(t).Nydusd, Backend: localfs(t, blobs)})
			require.NoError(t, err)
			defer mount.Close()
			assert.Equal(t, c.verified, mount.Verified)
			inode, err := mount.Merged.Lookup("a")
			require.NoError(t, err)
			file := mount.Merged.Open("a", inode)
			defer file.Close()
			got, err := io.ReadAll(file)
			if c.verified == nydusmount.VerifiedByNydusd {
				assert.Error(t, err, "%q", got)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, "THE CONTENT", string(got))
		})
	}
}

// TestNydusdDiskIsBounded: it keeps what it reads, decompressed.
func TestNydusdDiskIsBounded(t *testing.T) {
	dir := temp(t)
	var lines bytes.Buffer
	for n := 0; lines.Len() < 64<<20; n++ {
		fmt.Fprintf(&lines, "line %d of a text that is small when it is compressed\n", n)
	}
	spec := testimage.Spec{Name: "large", Layers: []testimage.Layer{{testimage.Reg("a", lines.Bytes())}}}
	n := testimage.Convert(t, testimage.BuildOCI(t, spec), testimage.ConvertOptions{})
	image, _ := edited(t, n, nil, nydusimage.Options{Limits: nydusimage.Limits{Temp: rafs.NewBudget(rafs.BoundTemp, 8<<20)}})
	daemon, err := nydusmount.StartDaemon(t.Context(), image, nydusmount.Options{Program: testimage.Tools(t).Nydusd})
	require.NoError(t, err)
	file, err := os.Open(filepath.Join(daemon.MountPoint, "a"))
	require.NoError(t, err)
	_, _ = io.Copy(io.Discard, file)
	file.Close()
	select {
	case <-daemon.Done():
	case <-time.After(20 * time.Second):
		t.Error("it goes on")
	}
	var limit *rafs.LimitError
	if assert.ErrorAs(t, daemon.Err(), &limit) {
		assert.Equal(t, rafs.BoundTemp, limit.Bound)
	}
	assert.NoError(t, daemon.Close())
	assertGone(t, dir)
}

// TestNydusdReadsNoOtherFile: nydusd reads a layout's blobs as they are.
func TestNydusdReadsNoOtherFile(t *testing.T) {
	temp(t)
	spec := testimage.Spec{Name: "other", Layers: []testimage.Layer{{testimage.Text("a", "the content")}}}
	n := testimage.Convert(t, testimage.BuildOCI(t, spec), testimage.ConvertOptions{})
	for name, c := range map[string]struct {
		replace func(path, outside string) error
		says    string
	}{
		"a link out of the layout":  {func(path, outside string) error { return os.Symlink(outside, path) }, "leads out of the OCI layout"},
		"a folder":                  {func(path, _ string) error { return os.Mkdir(path, 0o755) }, "no regular file"},
		"a file of another size":    {func(path, _ string) error { return os.WriteFile(path, []byte("x"), 0o644) }, "the manifest says"},
		"a link inside of a layout": {func(path, _ string) error { return os.Symlink("../../index.json", path) }, "the manifest says"},
	} {
		t.Run(name, func(t *testing.T) {
			image, folder := edited(t, n, nil, nydusimage.Options{})
			outside := filepath.Join(t.TempDir(), "outside")
			path := filepath.Join(folder, "blobs/sha256", image.Layers[0].Digest.Hex)
			stored, err := os.ReadFile(path)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(outside, stored, 0o600))
			require.NoError(t, os.Remove(path))
			require.NoError(t, c.replace(path, outside))
			_, err = nydusmount.StartDaemon(t.Context(), image, nydusmount.Options{Program: testimage.Tools(t).Nydusd})
			require.ErrorIs(t, err, nydusmount.ErrRefused)
			assert.ErrorContains(t, err, c.says)
		})
	}
}

// TestNydusdShowsNoHoles: of RAFS v5 nydusd knows no zeros. What lies behind a hole it
// shows in the hole's place, so that nobody reads a file with one; and one with a hole at
// its end not through nydusd.
func TestNydusdShowsNoHoles(t *testing.T) {
	temp(t)
	const chunk, name = 4096, "with-a-hole"
	content := make([]byte, 0, 3*chunk)
	for _, letter := range []byte("ABC") {
		content = append(content, bytes.Repeat([]byte{letter}, chunk)...)
	}
	spec := testimage.Spec{Name: "holes", Layers: []testimage.Layer{{testimage.Reg(name, content)}}}
	n := testimage.Convert(t, testimage.BuildOCI(t, spec), testimage.ConvertOptions{FSVersion: "5", ChunkSize: chunk})
	for gap, refused := range map[int]error{0: nil, 1: rafs.ErrCorrupt, 2: rafs.ErrCorrupt, 3: rafs.ErrUnsupported} { // the chunk behind the hole
		t.Run(fmt.Sprint("before chunk ", gap), func(t *testing.T) {
			image, _ := edited(t, n, func(b []byte) {
				if refused != nil {
					editHole(t, b, name, gap, chunk)
				}
			}, nydusimage.Options{})
			mount, err := nydusmount.Nydusd(t.Context(), image, nydusmount.Options{Program: testimage.Tools(t).Nydusd})
			require.NoError(t, err)
			defer mount.Close()
			inode, err := mount.Merged.Lookup(name)
			require.NoError(t, err)
			file := mount.Merged.Open(name, inode)
			defer file.Close()
			got, err := io.ReadAll(file)
			if refused != nil {
				assert.ErrorIs(t, err, refused)
				assert.ErrorContains(t, err, name)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, content, got)
		})
	}
}

// editHole makes room for a hole of a chunk's size before a chunk of a file of RAFS v5.
func editHole(t *testing.T, b []byte, name string, before, size int) {
	t.Helper()
	le := binary.LittleEndian
	at := bytes.Index(b, []byte(name)) - 128
	require.Positive(t, at)
	inode := b[at:]
	le.PutUint64(inode[80:], le.Uint64(inode[80:])|0x8) // it has holes
	le.PutUint64(inode[64:], le.Uint64(inode[64:])+uint64(size))
	chunks := inode[128+(len(name)+7)/8*8:]
	for k := before; k < int(le.Uint32(inode[96:])); k++ {
		offset := chunks[80*k+64:]
		le.PutUint64(offset, le.Uint64(offset)+uint64(size))
	}
}
