//go:build linux

package bench

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
)

// A workplace is what the processes of one scan know: an empty home, an empty folder for temporary files, Trivy's cache.
type workplace struct {
	programs               map[string]string // the paths of "trivy" and "trivy-nydus"
	home, temporary, cache string
}

// command is a command that is not started yet. Its stderr goes into the buffer.
func (w *workplace) command(t *testing.T, program string, args ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	cmd := exec.Command(w.programs[program], args...)
	cmd.Dir = w.home
	cmd.Env = append(os.Environ(), "HOME="+w.home, "XDG_CONFIG_HOME="+w.home, "XDG_RUNTIME_DIR="+w.home, "DOCKER_CONFIG="+w.home,
		"TMPDIR="+w.temporary, "NYDUSD="+testimage.Tools(t).Nydusd)
	said := &bytes.Buffer{}
	cmd.Stderr = said
	return cmd, said
}

// run runs a command that must succeed.
func (w *workplace) run(t *testing.T, program string, args ...string) *os.ProcessState {
	t.Helper()
	cmd, said := w.command(t, program, args...)
	require.NoError(t, cmd.Run(), "%q: %s", cmd.Args, said)
	return cmd.ProcessState
}

// add counts a process that has ended, and those that it waited for. The kernel begins a process's peak memory with that of
// the one which started it, so that this process has to stay small: see TestPush.
func (s *Scan) add(state *os.ProcessState) {
	s.CPU += state.UserTime() + state.SystemTime()
	s.PeakMemory = max(s.PeakMemory, state.SysUsage().(*syscall.Rusage).Maxrss<<10)
}

// diskUse is the bytes that the files below dir take, mounts and what symbolic links lead to apart. What vanishes meanwhile
// counts nothing.
func diskUse(dir string) int64 {
	var root unix.Stat_t
	if unix.Lstat(dir, &root) != nil {
		return 0
	}
	var total int64
	var walk func(dir string)
	walk = func(dir string) {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			name := filepath.Join(dir, e.Name())
			var s unix.Stat_t
			if unix.Lstat(name, &s) != nil || s.Dev != root.Dev {
				continue
			}
			total += s.Blocks * 512
			if e.IsDir() {
				walk(name)
			}
		}
	}
	walk(dir)
	return total
}

// watchDisk samples what lies in dir until stop is called, which says how much it was at most.
func watchDisk(dir string) (stop func() int64) {
	done, peak := make(chan struct{}), make(chan int64)
	go func() {
		var most int64
		for {
			most = max(most, diskUse(dir))
			select {
			case <-done:
				peak <- most
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	return func() int64 { close(done); return <-peak }
}
