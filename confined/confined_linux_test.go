//go:build amd64 || arm64

package confined_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/confined"
)

func TestMain(m *testing.M) {
	parts := map[string]confined.Part{"attempts": attempts, "work": work, "environment": environment, "fails": fails, "panics": panics, "hangs": hangs, "fills": fills}
	if code, is := confined.Main(os.Args[1:], parts); is {
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// attempts tries ways out, to a file, a listener and a process that its input names, and
// tells what became of each: nothing at all where one leads somewhere.
func attempts(input io.Reader, _ *os.File, output io.Writer) error {
	var target struct {
		File, Address string
		Process       int
	}
	if err := json.NewDecoder(input).Decode(&target); err != nil {
		return err
	}
	if err := confined.Enter(); err != nil {
		return err
	}
	dialer := net.Dialer{Timeout: time.Second}
	tries := map[string]func() error{
		"open":      func() error { _, err := os.Open(target.File); return err },
		"create":    func() error { return os.WriteFile(target.File+".new", nil, 0o600) },
		"mkdir":     func() error { return os.Mkdir(target.File+".d", 0o700) },
		"remove":    func() error { return os.Remove(target.File) },
		"rename":    func() error { return os.Rename(target.File, target.File+".2") },
		"link":      func() error { return os.Link(target.File, target.File+".3") },
		"chmod":     func() error { return os.Chmod(target.File, 0o777) },
		"stat":      func() error { _, err := os.Stat(target.File); return err },
		"readdir":   func() error { _, err := os.ReadDir("/"); return err },
		"chdir":     func() error { return os.Chdir("/") },
		"chroot":    func() error { return unix.Chroot("/") },
		"mount":     func() error { return unix.Mount("none", "/mnt", "tmpfs", 0, "") },
		"open2":     func() error { _, err := unix.Openat2(unix.AT_FDCWD, target.File, &unix.OpenHow{}); return err },
		"handle":    func() error { _, _, err := unix.NameToHandleAt(unix.AT_FDCWD, target.File, 0); return err },
		"ring":      func() error { _, _, e := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, 0, 0); return e },
		"exec":      func() error { return exec.Command("/bin/true").Run() },
		"execve":    func() error { return unix.Exec("/bin/true", []string{"true"}, nil) },
		"dial":      func() error { _, err := dialer.Dial("tcp", target.Address); return err },
		"udp":       func() error { _, err := net.Dial("udp", target.Address); return err },
		"unix":      func() error { _, err := net.Dial("unix", target.File); return err },
		"resolve":   func() error { _, err := net.LookupHost("example.com"); return err },
		"pair":      func() error { _, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0); return err },
		"kill":      func() error { return unix.Kill(target.Process, 0) },
		"tgkill":    func() error { return unix.Tgkill(target.Process, target.Process, 0) },
		"trace":     func() error { return unix.PtraceAttach(target.Process) },
		"namespace": func() error { return unix.Unshare(unix.CLONE_NEWUSER) },
		"memfd":     func() error { _, err := unix.MemfdCreate("x", 0); return err },
		"fork": func() error {
			child, _, e := unix.RawSyscall(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0)
			if e == 0 && child == 0 {
				unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
			}
			return e
		},
	}
	found := make(map[string]string)
	for name, try := range tries {
		switch err := try(); {
		case err == nil, errors.Is(err, unix.Errno(0)):
			found[name] = "succeeded"
		default:
			found[name] = err.Error()
		}
	}
	return json.NewEncoder(output).Encode(found)
}

func TestNothingIsReached(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, []byte("content"), 0o600))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	input := fmt.Sprintf(`{"File": %q, "Address": %q, "Process": %d}`, file, listener.Addr(), os.Getpid())
	output, err := confined.Run(t.Context(), "attempts", strings.NewReader(input), nil, os.Stderr)
	require.NoError(t, err)
	var found map[string]string
	require.NoError(t, json.Unmarshal(output, &found))
	require.Len(t, found, 28)
	for name, what := range found {
		assert.NotEqual(t, "succeeded", what, name)
	}
	// What looks for files that may be missing goes on without them.
	for _, name := range []string{"open", "stat", "mkdir", "exec"} {
		assert.Contains(t, found[name], "no such file or directory", name)
	}
	entries, err := os.ReadDir(filepath.Dir(file))
	require.NoError(t, err)
	assert.Len(t, entries, 1)
}

// work reads its data and keeps the runtime busy: threads, timers, garbage, stacks.
func work(input io.Reader, data *os.File, output io.Writer) error {
	text, err := io.ReadAll(input)
	if err != nil {
		return err
	}
	if err := confined.Enter(); err != nil {
		return err
	}
	section := make([]byte, 4)
	if _, err := data.ReadAt(section, 2); err != nil {
		return err
	}
	runtime.GOMAXPROCS(8)
	var group sync.WaitGroup
	for range 64 {
		group.Go(func() {
			runtime.LockOSThread() // a thread for each, which ends with it
			var kept [][]byte
			for n := range 64 {
				kept = append(kept, make([]byte, n<<10))
			}
			time.Sleep(time.Millisecond)
			runtime.KeepAlive(kept)
		})
	}
	group.Wait()
	runtime.GC()
	if _, err := os.ReadFile("/etc/ansible/ansible.cfg"); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	_, err = fmt.Fprintf(output, "%s %s", text, section)
	return err
}

func TestWork(t *testing.T) {
	data, err := os.Create(filepath.Join(t.TempDir(), "data"))
	require.NoError(t, err)
	defer data.Close()
	_, err = data.WriteString("0123456789")
	require.NoError(t, err)
	output, err := confined.Run(t.Context(), "work", strings.NewReader("input"), data, os.Stderr)
	require.NoError(t, err)
	assert.Equal(t, "input 2345", string(output))
}

func environment(_ io.Reader, _ *os.File, output io.Writer) error {
	_, err := fmt.Fprint(output, os.Environ())
	return err
}

func TestEnvironment(t *testing.T) {
	t.Setenv("AWS_SECRET_ACCESS_KEY", "hush")
	t.Setenv("TZ", "UTC")
	output, err := confined.Run(t.Context(), "environment", strings.NewReader(""), nil, os.Stderr)
	require.NoError(t, err)
	assert.Equal(t, "[TZ=UTC]", string(output))
}

func fails(_ io.Reader, _ *os.File, output io.Writer) error {
	fmt.Fprint(output, "half of it")
	return errors.New("main.tf: no such block")
}

func panics(io.Reader, *os.File, io.Writer) error { panic("at the disco") }

func hangs(io.Reader, *os.File, io.Writer) error {
	if err := confined.Enter(); err != nil {
		return err
	}
	for {
		time.Sleep(time.Hour)
	}
}

func fills(io.Reader, *os.File, io.Writer) error {
	if err := confined.Enter(); err != nil {
		return err
	}
	var all [][]byte
	for {
		all = append(all, make([]byte, 256<<20))
		runtime.KeepAlive(all)
	}
}

func TestFailures(t *testing.T) {
	_, err := confined.Run(t.Context(), "fails", strings.NewReader(""), nil, os.Stderr)
	assert.EqualError(t, err, "main.tf: no such block")
	var log strings.Builder
	_, err = confined.Run(t.Context(), "panics", strings.NewReader(""), nil, &log)
	assert.EqualError(t, err, "the confined process ended: exit status 2")
	assert.Contains(t, log.String(), "at the disco")
	assert.ErrorIs(t, err, confined.ErrEnded)
	_, err = confined.Run(t.Context(), "fills", strings.NewReader(""), nil, io.Discard)
	assert.ErrorIs(t, err, confined.ErrEnded)
	_, err = confined.Run(t.Context(), "unknown", strings.NewReader(""), nil, os.Stderr)
	assert.Error(t, err)
	ctx, cancel := context.WithTimeoutCause(t.Context(), 100*time.Millisecond, errors.New("time is up"))
	defer cancel()
	_, err = confined.Run(ctx, "hangs", strings.NewReader(""), nil, os.Stderr)
	assert.EqualError(t, err, "time is up")
}
