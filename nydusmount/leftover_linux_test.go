package nydusmount_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
)

// mountAt has the real nydusd mount an image at a folder.
func mountAt(t *testing.T, point string) *nydusmount.Daemon {
	t.Helper()
	require.NoError(t, os.MkdirAll(point, 0o755))
	image := layout(t, testimage.Tiny(t), testimage.ConvertOptions{})
	daemon, err := nydusmount.StartDaemon(t.Context(), image, nydusmount.Options{Program: testimage.Tools(t).Nydusd, MountPoint: point})
	require.NoError(t, err)
	t.Cleanup(func() { daemon.Close() })
	return daemon
}

// cleaned does what each start does first.
func cleaned(t *testing.T) {
	t.Helper()
	_, err := nydusmount.CheckMountPoint(t.TempDir())
	require.NoError(t, err)
}

// TestMountMoved: a mount is found where a folder above it has been renamed, also where it
// is bound elsewhere.
func TestMountMoved(t *testing.T) {
	dir, base := temp(t), t.TempDir()
	daemon := mountAt(t, filepath.Join(base, "a", "app"))
	require.NoError(t, os.Rename(filepath.Join(base, "a"), filepath.Join(base, "b")))
	bound := filepath.Join(base, "bound")
	require.NoError(t, os.Mkdir(bound, 0o755))
	require.NoError(t, unix.Mount(filepath.Join(base, "b", "app"), bound, "", unix.MS_BIND, ""))
	assert.NoError(t, daemon.Close())
	assertGone(t, dir)
	assertGone(t, base)
}

// TestMountCovered: what another mount hides cannot be taken away, which is said. The next
// start does, if it can.
func TestMountCovered(t *testing.T) {
	for name, above := range map[string]string{"it": "a/app", "a folder above": "a"} {
		t.Run(name, func(t *testing.T) {
			dir, base := temp(t), t.TempDir()
			daemon := mountAt(t, filepath.Join(base, "a", "app"))
			require.NoError(t, unix.Mount("none", filepath.Join(base, above), "tmpfs", 0, ""))
			err := daemon.Close()
			cleaned(t)
			assert.ErrorIs(t, err, nydusmount.ErrLeft)
			assert.ErrorContains(t, err, daemon.MountPoint+" is mounted still")
			assert.Len(t, runFolders(t, dir), 1)
			require.NoError(t, unix.Unmount(filepath.Join(base, above), unix.UMOUNT_NOFOLLOW), "it is not ours")
			cleaned(t)
			assertGone(t, dir)
			assertGone(t, base)
		})
	}
}

// TestUnmountedByHand: while somebody uses the mount, nydusd does not end then, and the
// folder looks like an empty image.
func TestUnmountedByHand(t *testing.T) {
	dir, base := temp(t), t.TempDir()
	daemon := mountAt(t, filepath.Join(base, "app"))
	file, err := os.Open(filepath.Join(daemon.MountPoint, testimage.SecretPath))
	require.NoError(t, err)
	defer file.Close()
	require.NoError(t, unix.Unmount(daemon.MountPoint, unix.MNT_DETACH))
	select {
	case <-daemon.Done():
		assert.ErrorIs(t, daemon.Err(), nydusmount.ErrNydusd)
		assert.ErrorContains(t, daemon.Err(), "somebody has unmounted "+daemon.MountPoint)
	case <-time.After(10 * time.Second):
		t.Error("it is not noticed")
	}
	assert.NoError(t, daemon.Close())
	assertGone(t, dir)
}

// TestDeviceOfAnother: the number of a device that a dead nydusd had is another's by now,
// who lives.
func TestDeviceOfAnother(t *testing.T) {
	dir, base := temp(t), t.TempDir()
	daemon := mountAt(t, filepath.Join(base, "app"))
	record, err := os.ReadFile(filepath.Join(runFolders(t, dir)[0], "mounted.json"))
	require.NoError(t, err)
	other := t.TempDir()
	dead := filepath.Join(other, "trivy-nydus-mount-dead")
	require.NoError(t, os.Mkdir(dead, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dead, "lock"), nil, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dead, "mounted.json"), record, 0o600))
	t.Setenv("TMPDIR", other)
	cleaned(t)
	assert.NoDirExists(t, dead)
	assert.FileExists(t, filepath.Join(daemon.MountPoint, testimage.SecretPath))
	require.NoError(t, daemon.Close())
	assertGone(t, dir)
	assertGone(t, base)
}

// TestMountedMeanwhile: what another mounts while nydusd fails to start is left alone.
func TestMountedMeanwhile(t *testing.T) {
	dir, base := temp(t), t.TempDir()
	point, number := filepath.Join(base, "app"), filepath.Join(base, "number")
	require.NoError(t, os.Mkdir(point, 0o755))
	image := layout(t, testimage.Tiny(t), testimage.ConvertOptions{})
	failing := fake(t, `setsid $REAL "$1" "$2" "$3" "$4" "$5" "$6" "$7" --rlimit-nofile 1000 & echo $! > `+number+`; while [ -z "$(ls $7)" ]; do sleep 0.05; done; exit 3`)
	_, err := nydusmount.StartDaemon(t.Context(), image, nydusmount.Options{Program: failing, MountPoint: point, StartTimeout: 5 * time.Second})
	assert.ErrorContains(t, err, "exit status 3")
	text, err := os.ReadFile(number)
	require.NoError(t, err)
	other, err := strconv.Atoi(strings.TrimSpace(string(text)))
	require.NoError(t, err)
	t.Cleanup(func() { _ = exec.Command("umount", "-l", point).Run() })
	assert.FileExists(t, filepath.Join(point, testimage.SecretPath))
	require.NoError(t, syscall.Kill(other, syscall.SIGKILL))
	assertGone(t, dir)
}
