package nydusmount_test

import (
	"context"
	"fmt"
	"io"
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

// unremovable is a nydusd that leaves a file which cannot be removed in its run folder
// before it does the rest.
func unremovable(t *testing.T, rest string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	if output, err := exec.Command("chattr", "+i", file).CombinedOutput(); err != nil {
		t.Skipf("no file can be made immutable here: %s", output)
	}
	require.NoError(t, exec.Command("chattr", "-i", file).Run())
	return fake(t, "touch cache/fixed; chattr +i cache/fixed; "+rest)
}

// TestLeftBehindIsSaid: whenever nydusd ends, what could not be taken away is told with
// the reason, and the next start takes it away.
func TestLeftBehindIsSaid(t *testing.T) {
	dir := temp(t)
	image := layout(t, testimage.Tiny(t), testimage.ConvertOptions{})
	fixed := func() []string {
		found, err := filepath.Glob(filepath.Join(dir, "*", "cache", "fixed"))
		require.NoError(t, err)
		return found
	}
	started := func(t *testing.T, rest string) *nydusmount.Daemon {
		daemon, err := nydusmount.StartDaemon(t.Context(), image, nydusmount.Options{Program: unremovable(t, rest)})
		require.NoError(t, err)
		return daemon
	}
	for name, end := range map[string]func(t *testing.T) error{
		"closed": func(t *testing.T) error { return started(t, `exec $REAL "$@"`).Close() },
		"it ends by itself": func(t *testing.T) error {
			daemon := started(t, `$REAL "$@" & sleep 1; kill -9 $!; exit 3`)
			<-daemon.Done()
			assert.ErrorContains(t, daemon.Err(), "nydusd ended")
			return daemon.Close()
		},
		"it does not start": func(t *testing.T) error {
			_, err := nydusmount.StartDaemon(t.Context(), image, nydusmount.Options{Program: unremovable(t, "exit 3")})
			assert.ErrorContains(t, err, "exit status 3")
			return err
		},
		"interrupted while it starts": func(t *testing.T) error {
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				for len(fixed()) == 0 {
					time.Sleep(10 * time.Millisecond)
				}
				time.Sleep(100 * time.Millisecond)
				cancel()
			}()
			_, err := nydusmount.StartDaemon(ctx, image, nydusmount.Options{Program: unremovable(t, "exec sleep 60")})
			assert.ErrorIs(t, err, context.Canceled)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := end(t)
			left := fixed()
			require.Len(t, left, 1)
			require.NoError(t, exec.Command("chattr", "-i", left[0]).Run())
			assert.ErrorIs(t, err, nydusmount.ErrLeft)
			assert.ErrorContains(t, err, "left behind "+filepath.Dir(filepath.Dir(left[0])))
			assert.ErrorContains(t, err, "operation not permitted")
			assert.NotContains(t, fmt.Sprint(err), "%!w")
			_, err = nydusmount.CheckMountPoint(t.TempDir()) // cleans, as each start does
			require.NoError(t, err)
			assertGone(t, dir)
		})
	}
}

// TestLivingRunFolderStays: a start does not clean what another lives in.
func TestLivingRunFolderStays(t *testing.T) {
	dir := temp(t)
	image := layout(t, testimage.Tiny(t), testimage.ConvertOptions{})
	options := nydusmount.Options{Program: testimage.Tools(t).Nydusd}
	first, err := nydusmount.Nydusd(t.Context(), image, options)
	require.NoError(t, err)
	defer first.Close()
	foreign := filepath.Join(dir, "trivy-nydus-mount-foreign") // no lock file, not empty
	require.NoError(t, os.Mkdir(foreign, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(foreign, "file"), nil, 0o600))
	require.NoError(t, os.Chtimes(foreign, time.Time{}, time.Now().Add(-time.Hour)))
	dead := filepath.Join(dir, "trivy-nydus-mount-dead")
	require.NoError(t, os.Mkdir(dead, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dead, "lock"), nil, 0o600))
	second, err := nydusmount.Nydusd(t.Context(), image, options)
	require.NoError(t, err)
	assert.Len(t, runFolders(t, dir), 3, "two that live, and one that is not ours")
	assert.NoDirExists(t, dead)
	require.NoError(t, second.Close())
	file, err := first.Merged.Lookup(testimage.SecretPath)
	require.NoError(t, err)
	_, err = io.ReadAll(first.Merged.Open(testimage.SecretPath, file))
	assert.NoError(t, err)
	require.NoError(t, first.Close())
	require.NoError(t, os.RemoveAll(foreign))
	assertGone(t, dir)
}
