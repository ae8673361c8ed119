package nydusmount

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// asUser names the variable that tells the test below that it is the process of
// an unprivileged user, and where that shall mount.
const asUser = "NYDUSMOUNT_TEST_POINT"

// TestUnmountAsUser: who may not unmount by the system call asks fusermount3,
// which is what has mounted then.
func TestUnmountAsUser(t *testing.T) {
	if point := os.Getenv(asUser); point != "" {
		unmountAsUser(t, point)
		return
	}
	skip := func(why any) { t.Skipf("SKIPPED, NOTHING WAS MOUNTED: %v", why) }
	helper, err := exec.LookPath("fusermount3")
	if err != nil {
		skip(err)
	}
	if info, err := os.Stat(helper); err != nil || info.Mode()&os.ModeSetuid == 0 {
		skip(helper + " is not set-user-ID")
	}
	if os.Geteuid() != 0 {
		skip("only root can become another user")
	}
	dir, err := os.MkdirTemp("", "unmount") // which others can reach
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	require.NoError(t, os.Chmod(dir, 0o755))
	point, program := filepath.Join(dir, "point"), filepath.Join(dir, "test")
	require.NoError(t, os.Mkdir(point, 0o700))
	require.NoError(t, os.Chown(point, 65534, 65534))
	copyProgram(t, program)
	// In a mount namespace of its own, in which the device may be opened.
	const script = `mknod -m 666 "$0/fuse" c 10 229 && mount --bind "$0/fuse" /dev/fuse &&
exec setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all "$@"`
	try := func(command ...string) *exec.Cmd {
		return exec.Command("unshare", append([]string{"--mount", "sh", "-c", script, dir}, command...)...)
	}
	if out, err := try("true").CombinedOutput(); err != nil {
		skip(fmt.Sprintf("%v: %s", err, out))
	}
	require.NoError(t, os.Remove(filepath.Join(dir, "fuse")))
	cmd := try(program, "-test.run=^TestUnmountAsUser$", "-test.v")
	cmd.Env = append(os.Environ(), asUser+"="+point, "TMPDIR="+point)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	assert.Contains(t, string(out), "--- PASS: TestUnmountAsUser")
}

func copyProgram(t *testing.T, to string) {
	t.Helper()
	from, err := os.Open("/proc/self/exe")
	require.NoError(t, err)
	defer from.Close()
	file, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	require.NoError(t, err)
	_, err = io.Copy(file, from)
	require.NoError(t, err)
	require.NoError(t, file.Close())
}

// unmountAsUser mounts through fusermount3, as libfuse does, and unmounts.
func unmountAsUser(t *testing.T, point string) {
	require.NotZero(t, os.Geteuid())
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	require.NoError(t, err)
	theirs := os.NewFile(uintptr(pair[1]), "socket")
	mount := exec.Command("fusermount3", "-o", "fsname=test", "--", point)
	mount.ExtraFiles = []*os.File{theirs}
	mount.Env = append(os.Environ(), "_FUSE_COMMFD=3")
	out, err := mount.CombinedOutput()
	require.NoError(t, err, string(out))
	theirs.Close()
	message, control := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(pair[0], message, control, 0)
	require.NoError(t, err)
	messages, err := unix.ParseSocketControlMessage(control[:n])
	require.NoError(t, err)
	require.Len(t, messages, 1)
	server, err := unix.ParseUnixRights(&messages[0]) // nobody answers there
	require.NoError(t, err)
	defer unix.Close(server[0])

	top, err := topMount(point)
	require.NoError(t, err)
	require.NotNil(t, top, "it is mounted")
	require.True(t, top.isFUSE())
	require.ErrorIs(t, unix.Unmount(point, unix.MNT_DETACH), unix.EPERM, "else there is nothing to test")
	mounts := func() ([]mountEntry, error) { return mountsOf(top.device) }
	path := os.Getenv("PATH")
	t.Setenv("PATH", "/nowhere")
	require.ErrorIs(t, unmountAll(mounts), unix.EPERM, "without the helper")
	t.Setenv("PATH", path)
	require.NoError(t, unmountAll(mounts))
	top, err = topMount(point)
	require.NoError(t, err)
	assert.Nil(t, top)
}

// TestRecordOfAnotherBoot: what an earlier run of the machine had mounted is gone, and
// who has its device now is another.
func TestRecordOfAnotherBoot(t *testing.T) {
	run := &runFolder{path: t.TempDir()}
	require.NoError(t, run.record("/somewhere", "0:50"))
	assert.Equal(t, &mountRecord{"/somewhere", "0:50", bootID()}, readRecord(run.path))
	assert.NotEmpty(t, bootID())
	require.NoError(t, run.write(mountFile, []byte(`{"Point":"/somewhere","Device":"0:50","Boot":"another"}`)))
	assert.Nil(t, readRecord(run.path))
}

// TestLockGoesLast: a run folder that cannot be removed keeps its lock, by which the
// next start knows it.
func TestLockGoesLast(t *testing.T) {
	base := t.TempDir()
	run, err := newRunFolder(base)
	require.NoError(t, err)
	require.NoError(t, os.Mkdir(run.file(cacheDir), 0o700))
	fixed := run.file(cacheDir + "/data")
	require.NoError(t, os.WriteFile(fixed, nil, 0o600))
	if output, err := exec.Command("chattr", "+i", fixed).CombinedOutput(); err != nil {
		t.Skipf("no file can be made immutable here: %s", output)
	}
	assert.Error(t, run.remove())
	assert.FileExists(t, run.file(lockFile))
	require.NoError(t, exec.Command("chattr", "-i", fixed).Run())
	cleanLeftovers(base)
	assert.NoDirExists(t, run.path)
}

// TestWithoutLocks: where files cannot be locked nothing is left behind, and the reason is
// said.
func TestWithoutLocks(t *testing.T) {
	was := flock
	defer func() { flock = was }()
	flock = func(*os.File) error { return unix.ENOLCK }
	base := t.TempDir()
	_, err := newRunFolder(base)
	assert.ErrorIs(t, err, unix.ENOLCK)
	assert.ErrorContains(t, err, "TMPDIR")
	left, err := os.ReadDir(base)
	require.NoError(t, err)
	assert.Empty(t, left)
	_, err = claim(base)
	assert.ErrorIs(t, err, unix.ENOLCK)
	assert.ErrorIs(t, err, ErrMountPoint)
}

// TestLeftoverReplaced: between the look at a run folder and its lock another user may put
// one of his own there, or a link.
func TestLeftoverReplaced(t *testing.T) {
	base := t.TempDir()
	run, err := newRunFolder(base)
	require.NoError(t, err)
	run.lock.Close()
	var seen unix.Stat_t
	require.NoError(t, unix.Lstat(run.path, &seen))
	lock, err := lockLeftover(run.path, &seen)
	require.NoError(t, err)
	lock.Close()
	moved := filepath.Join(base, "moved")
	require.NoError(t, os.Rename(run.path, moved))
	for name, replace := range map[string]func() error{
		"a folder": func() error {
			return errors.Join(os.Mkdir(run.path, 0o700), os.WriteFile(run.file(lockFile), nil, 0o600))
		},
		"a link": func() error { return os.Symlink(moved, run.path) },
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, replace())
			defer os.RemoveAll(run.path)
			_, err := lockLeftover(run.path, &seen)
			assert.ErrorContains(t, err, "is another by now")
		})
	}
}
