//go:build amd64 || arm64

package confined

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// self is this program, also if its file has been replaced since.
func self() (string, error) { return "/proc/self/exe", nil }

// run runs a command that ends with this process.
func run(cmd *exec.Cmd) error {
	// The signal comes when the thread ends that has started the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// What a terminal sends to interrupt is for this process, which ends that one.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL, Setpgid: true}
	return cmd.Run()
}

// Enter confines the process, for good. What is open stays open, and memory can be had,
// up to MaxMemory.
func Enter() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Setrlimit(unix.RLIMIT_DATA, &unix.Rlimit{Cur: MaxMemory, Max: MaxMemory}); err != nil {
		return fmt.Errorf("%w: bound its memory: %w", ErrUnavailable, err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("%w: give up privileges: %w", ErrUnavailable, err)
	}
	program := filter(os.Getpid())
	if err := install(program); err != nil {
		return fmt.Errorf("%w: install a seccomp filter: %w", ErrUnavailable, err)
	}
	return proven()
}

// proven looks whether the filter holds: some emulations of Linux take filters and do
// not apply them.
func proven() error {
	if f, err := os.Open("/"); !errors.Is(err, os.ErrNotExist) {
		_ = f.Close()
		return fmt.Errorf("%w: files can be opened in spite of the seccomp filter", ErrUnavailable)
	}
	if s, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0); err == nil {
		_ = unix.Close(s)
		return fmt.Errorf("%w: hosts can be reached in spite of the seccomp filter", ErrUnavailable)
	}
	return nil
}
