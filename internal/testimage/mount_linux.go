package testimage

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// mountTimeout is how long nydusd may take until its mount shows.
const mountTimeout = 30 * time.Second

// Mount mounts a bootstrap with the real nydusd over FUSE and returns the mount point. Data comes from the blobs in
// blobDir, named by their sha256 in hex. The mount ends with the test. Without /dev/fuse the test is skipped. Of v5 nydusd
// validates digests.
func Mount(t testing.TB, bootstrap, blobDir string) string {
	t.Helper()
	return mount(t, bootstrap, blobDir, true)
}

// MountUnvalidated is Mount with nydusd's default: no digest is validated.
func MountUnvalidated(t testing.TB, bootstrap, blobDir string) string {
	t.Helper()
	return mount(t, bootstrap, blobDir, false)
}

func mount(t testing.TB, bootstrap, blobDir string, validate bool) string {
	t.Helper()
	if f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0); err != nil {
		t.Skipf("SKIPPED, NOTHING WAS COMPARED: nydusd cannot mount here: %v", err)
	} else {
		f.Close()
	}
	nydusd := Tools(t).Nydusd
	dir := t.TempDir()
	mountPoint, cache := filepath.Join(dir, "mnt"), filepath.Join(dir, "cache")
	for _, d := range []string{mountPoint, cache} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatalf("mount: %v", err)
		}
	}
	config := filepath.Join(dir, "nydusd.json")
	if err := os.WriteFile(config, nydusdConfig(t, bootstrap, blobDir, cache, validate), 0o600); err != nil {
		t.Fatalf("mount: %v", err)
	}
	var said bytes.Buffer
	cmd := exec.Command(nydusd, "--config", config, "--mountpoint", mountPoint, "--bootstrap", bootstrap,
		"--log-level", "warn", "--apisock", filepath.Join(dir, "api.sock"), "--rlimit-nofile", openFilesLimit(t))
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatalf("mount: start nydusd: %v", err)
	}
	exited := make(chan struct{})
	go func() { cmd.Wait(); close(exited) }()
	t.Cleanup(func() {
		unix.Unmount(mountPoint, unix.MNT_DETACH)
		cmd.Process.Kill()
		<-exited
	})
	deadline := time.After(mountTimeout)
	for !isFuseMount(mountPoint) {
		select {
		case <-exited:
			t.Fatalf("mount %s: nydusd exited: %s", bootstrap, said.String())
		case <-deadline:
			cmd.Process.Kill()
			<-exited
			t.Fatalf("mount %s: nothing is mounted after %v: %s", bootstrap, mountTimeout, said.String())
		case <-time.After(10 * time.Millisecond):
		}
	}
	return mountPoint
}

// nydusdConfig is nydusd's configuration for blobs in a folder. Without a cache folder it would write beside itself.
// Digests are validated for v5, as nydusify does, if they are to be; nydusd 2.2.0 cannot do that for v6.
func nydusdConfig(t testing.TB, bootstrap, blobDir, cache string, validate bool) []byte {
	t.Helper()
	head := make([]byte, 4)
	f, err := os.Open(bootstrap)
	if err == nil {
		_, err = f.Read(head)
		f.Close()
	}
	if err != nil {
		t.Fatalf("mount: read the bootstrap: %v", err)
	}
	validate = validate && string(head) == "SFAR"
	type object = map[string]any
	raw, err := json.Marshal(object{
		"version": 2, // by version 1 it compares no data with digests
		"backend": object{"type": "localfs", "localfs": object{"dir": blobDir}},
		"cache":   object{"type": "blobcache", "filecache": object{"work_dir": cache}, "validate": validate},
		"rafs":    object{"mode": "direct", "enable_xattr": true, "iostats_files": false, "validate": validate},
	})
	if err != nil {
		t.Fatalf("mount: %v", err)
	}
	return raw
}

// openFilesLimit is nydusd's own default where the hard limit allows it: nydusd gives up where it does not.
func openFilesLimit(t testing.TB) string {
	t.Helper()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatalf("mount: limit of open files: %v", err)
	}
	return strconv.FormatUint(min(limit.Max, 1000000), 10)
}

// isFuseMount says whether the mount table has a FUSE filesystem at the mount point. In the table, fields are
// separated by spaces and the mount point is the second.
func isFuseMount(mountPoint string) bool {
	table, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return false
	}
	escaped := strings.NewReplacer(" ", `\040`, "\t", `\011`, "\n", `\012`, `\`, `\134`).Replace(mountPoint)
	for line := range strings.Lines(string(table)) {
		fields := strings.Fields(line)
		if len(fields) > 2 && fields[1] == escaped && strings.HasPrefix(fields[2], "fuse") {
			return true
		}
	}
	return false
}
