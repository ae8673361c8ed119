package consistency

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/pkg/archive"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
)

// mountOverlay unpacks the layers as containerd does, each into a folder of its
// own, and mounts them with overlayfs. Root only.
func mountOverlay(t testing.TB, layers []io.Reader) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED, NOTHING WAS COMPARED: unpacking layers needs root")
	}
	dir := t.TempDir()
	var lower []string // top first
	for n, layer := range layers {
		name := filepath.Join(dir, fmt.Sprint(n))
		require.NoError(t, os.Mkdir(name, 0o755))
		_, err := archive.Apply(t.Context(), name, layer,
			archive.WithConvertWhiteout(archive.OverlayConvertWhiteout), archive.WithParents(lower))
		require.NoError(t, err, "unpack layer %d", n+1)
		lower = append([]string{name}, lower...)
	}
	bottom := filepath.Join(dir, "empty") // overlayfs wants two
	mountPoint := filepath.Join(dir, "mnt")
	require.NoError(t, os.Mkdir(bottom, 0o755))
	require.NoError(t, os.Mkdir(mountPoint, 0o755))
	require.NoError(t, unix.Mount("overlay", mountPoint, "overlay", unix.MS_RDONLY,
		"lowerdir="+strings.Join(append(lower, bottom), ":")))
	t.Cleanup(func() { require.NoError(t, unix.Unmount(mountPoint, unix.MNT_DETACH)) })
	return mountPoint
}

// shown is what overlayfs shows of an image, without what the system that
// unpacks it decides: the root directory, how many links the files of one layer
// had, the mode of symbolic links.
type shown struct{ Filesystem }

func (s shown) Walk(fn func(Node) error) error {
	names := make(map[uint64]uint64)
	if err := s.Filesystem.Walk(func(n Node) error {
		names[n.Inode]++
		return nil
	}); err != nil {
		return err
	}
	return s.Filesystem.Walk(func(n Node) error {
		if n.Path == "." {
			return nil
		}
		if !n.isDir() {
			n.Links = names[n.Inode]
		}
		if n.Mode&typeMask == typeSymlink {
			n.Mode = typeSymlink | 0o777
		}
		if !n.NoMTime && n.MTime.Before(time.Unix(0, 0)) {
			n.MTime = time.Unix(0, 0) // containerd's bound
		}
		kept := make(map[string][]byte)
		for name, value := range n.Xattrs {
			if !strings.HasPrefix(name, "trusted.") { // containerd refuses them
				kept[name] = value
			}
		}
		n.Xattrs = kept
		return fn(n)
	})
}

// layersOf opens the layers of an image.
func layersOf(t testing.TB, image v1.Image) []io.Reader {
	t.Helper()
	layers, err := image.Layers()
	require.NoError(t, err)
	var readers []io.Reader
	for _, l := range layers {
		r, err := l.Uncompressed()
		require.NoError(t, err)
		t.Cleanup(func() { r.Close() })
		readers = append(readers, r)
	}
	return readers
}

// TestShowsWhatOverlayfsShows compares the layers as they are applied in memory
// with the same layers unpacked by containerd and mounted with overlayfs.
func TestShowsWhatOverlayfsShows(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	for name, spec := range map[string]func(testing.TB) testimage.Spec{
		"Odd":            testimage.Odd,
		"Tiny":           testimage.Tiny,
		"DebianApp":      testimage.DebianApp,
		"Alpine":         testimage.Alpine,
		"Wheels":         testimage.Wheels,
		"NonRoot":        testimage.NonRoot,
		"Upper":          testimage.Upper,
		"Links":          testimage.Links,
		"FirstNameGone":  testimage.FirstNameGone,
		"NoRelease":      testimage.NoRelease,
		"Upgraded":       testimage.Upgraded,
		"SecretCmd":      testimage.SecretCmd,
		"WhiteoutInBase": testimage.WhiteoutInBase,
		"Lossy":          testimage.Lossy,
		"parents":        parents,
		"names":          names,
		"replaced":       replaced,
		"hardLinks":      hardLinks,
		"precise":        precise,
		"manyLayers":     manyLayers,
	} {
		t.Run(name, func(t *testing.T) {
			image := testimage.BuildOCI(t, spec(t))
			compareWithOverlay(t, func() []io.Reader { return layersOf(t, image) })
		})
	}
}

func compareWithOverlay(t *testing.T, layers func() []io.Reader) {
	t.Helper()
	mounted := shown{Dir(mountOverlay(t, layers()))}
	differences, err := Compare(shown{treeOf(t, layers())}, mounted)
	require.NoError(t, err)
	for _, d := range differences {
		t.Error(d)
	}
}
