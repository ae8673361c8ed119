//go:build linux

package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
)

// needFUSE skips, loudly, where nydusd cannot mount.
func needFUSE(t testing.TB) {
	t.Helper()
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("SKIPPED, NOTHING WAS MOUNTED: nydusd cannot mount here: %v", err)
	}
	f.Close()
}

// throughNydusd are the flags for a scan through nydusd.
func throughNydusd(t testing.TB) []string {
	t.Helper()
	needFUSE(t)
	return []string{"--mount", "nydusd", "--nydusd", testimage.Tools(t).Nydusd}
}

// ownTemp gives the commands that the test runs a folder for temporary files of
// their own, by which their processes are known.
func ownTemp(t *testing.T) string {
	t.Helper()
	_, err := databases() // are for all tests, and must not be made in a folder of this one
	require.NoError(t, err)
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	t.Cleanup(func() {
		// A test that failed must not leave anything for others to stumble over.
		for number := range processesOf(dir) {
			_ = unix.Kill(number, unix.SIGKILL)
		}
		for _, m := range mountsUnder(t, dir) {
			_ = unix.Unmount(m, unix.MNT_DETACH)
		}
	})
	return dir
}

// mountsUnder lists what is mounted below a folder.
func mountsUnder(t testing.TB, dir string) []string {
	t.Helper()
	table, err := os.ReadFile("/proc/self/mountinfo")
	require.NoError(t, err)
	var points []string
	for line := range strings.Lines(string(table)) {
		if point := strings.Fields(line)[4]; strings.HasPrefix(point, dir+"/") {
			points = append(points, point)
		}
	}
	return points
}

// processesOf lists the processes that have the folder for temporary files, by
// number, and their command lines; the test's own registries apart.
func processesOf(dir string) map[int]string {
	found := make(map[int]string)
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range all {
		environment, err := os.ReadFile(filepath.Join(p, "environ"))
		if err != nil || !strings.Contains("\x00"+string(environment), "\x00TMPDIR="+dir+"\x00") {
			continue
		}
		if words, err := os.ReadFile(filepath.Join(p, "cmdline")); err == nil && !strings.Contains(string(words), "docker-registry") {
			number, _ := strconv.Atoi(filepath.Base(p))
			found[number] = strings.ReplaceAll(string(words), "\x00", " ")
		}
	}
	return found
}

// nydusdOf finds the nydusd that runs for a folder for temporary files.
func nydusdOf(t testing.TB, dir string) *os.Process {
	t.Helper()
	for number, command := range processesOf(dir) {
		if words := strings.Fields(command); len(words) > 1 && words[1] == "fuse" {
			p, err := os.FindProcess(number)
			require.NoError(t, err)
			return p
		}
	}
	t.Fatalf("no nydusd runs: %v", processesOf(dir))
	return nil
}

// leftovers lists what runs, is mounted and lies under a folder for temporary
// files on behalf of nydusd.
func leftovers(t testing.TB, dir string) []string {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(dir, "trivy-nydus-mount-*"))
	require.NoError(t, err)
	for _, m := range mountsUnder(t, dir) {
		left = append(left, "mount at "+m)
	}
	for number, command := range processesOf(dir) {
		left = append(left, fmt.Sprintf("process %d: %s", number, command))
	}
	return left
}

func assertNothingLeft(t testing.TB, dir string) {
	t.Helper()
	assert.Empty(t, leftovers(t, dir))
}

// eventually waits for a condition, for ten seconds.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within ten seconds: %s", what)
		}
	}
}

// script makes a program that is nydusd but for what it does when it is to
// mount: body, a shell script in which REAL is nydusd's path.
func script(t testing.TB, body string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "nydusd")
	text := fmt.Sprintf("#!/bin/sh\nREAL=%s\ncase \"$1\" in fuse) ;; *) exec $REAL \"$@\";; esac\n%s\n", testimage.Tools(t).Nydusd, body)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o755))
	return path
}

// isNydusd says whether nydusd asks for data.
func isNydusd(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") && !strings.HasPrefix(r.UserAgent(), "trivy-nydus")
}

// said is what a command has written to stderr so far.
type said string

func (s said) text() string { data, _ := os.ReadFile(string(s)); return string(data) }

// startMount starts the mount command and waits until it says that it is ready.
func startMount(t *testing.T, p *process) said {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	require.NoError(t, err)
	t.Cleanup(func() { file.Close() })
	p.Cmd.Stderr = file
	require.NoError(t, p.Start())
	s := said(file.Name())
	eventually(t, "it says that it is ready", func() bool { return strings.Contains(s.text(), "is mounted at") })
	return s
}
