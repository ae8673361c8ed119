package nydusmount

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// runPrefix begins the names of run folders, in the folder for temporary files.
	runPrefix = "trivy-nydus-mount-"
	lockFile  = "lock"
	// mountFile says where nydusd mounts, which may be outside of the run folder.
	mountFile = "mounted.json"
	// unlockedAge is how old a run folder without a lock file must be to count as
	// left behind: a younger one may be just being made.
	unlockedAge = time.Minute
)

// A runFolder holds what one nydusd needs, for this user only. Who holds its
// lock is alive; a folder without one was left behind by a crash.
type runFolder struct {
	path string
	lock *os.File
}

// mountRecord is the content of mountFile.
type mountRecord struct {
	Point  string
	Device string // "" until nydusd serves
}

func newRunFolder(base string) (*runFolder, error) {
	for range 10 {
		path, err := os.MkdirTemp(base, runPrefix) // for the user only
		if err != nil {
			return nil, fmt.Errorf("make a run folder: %w", err)
		}
		lock, err := os.OpenFile(filepath.Join(path, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			os.Remove(path)
			return nil, fmt.Errorf("lock the run folder: %w", err)
		}
		// Somebody who cleans up may have been faster, and takes it for left behind.
		if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil && isAt(lock, filepath.Join(path, lockFile)) {
			return &runFolder{path, lock}, nil
		}
		lock.Close()
	}
	return nil, errors.New("make a run folder: others remove it again and again")
}

// isAt says whether an open file is the one at a path.
func isAt(file *os.File, path string) bool {
	open, err := file.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(path)
	return err == nil && os.SameFile(open, there)
}

func (r *runFolder) file(name string) string { return filepath.Join(r.path, name) }

// write makes a file that only the user can read.
func (r *runFolder) write(name string, data []byte) error {
	return os.WriteFile(r.file(name), data, 0o600)
}

// record notes what is mounted where, for who cleans up after a crash.
func (r *runFolder) record(point, device string) error {
	data, err := json.Marshal(mountRecord{point, device})
	if err != nil {
		return err
	}
	next := mountFile + ".next" // whole or not at all
	if err := r.write(next, data); err != nil {
		return err
	}
	return os.Rename(r.file(next), r.file(mountFile))
}

// unmount takes away what nydusd, which is dead, had mounted. If it died before
// its device was known, it is told by having no server.
func (m *mountRecord) unmount() {
	if m.Device == "" {
		var stat unix.Statfs_t
		if !errors.Is(unix.Statfs(m.Point, &stat), unix.ENOTCONN) {
			return
		}
	}
	_ = unmount(m.Point, m.Device)
}

// remove takes the folder away. Nothing must be mounted in it.
func (r *runFolder) remove() error {
	defer r.lock.Close()
	return removeRun(r.path)
}

// removeRun removes a run folder, unless something is mounted in it still.
func removeRun(path string) error {
	table, err := mountTable()
	if err != nil {
		return err
	}
	for _, m := range table {
		if strings.HasPrefix(m.point, path+"/") {
			return fmt.Errorf("%s is mounted still", m.point)
		}
	}
	return os.RemoveAll(path)
}

// cleanLeftovers removes the run folders in base that nobody lives in: those of
// watchers that were killed. Their nydusd died with them. What cannot be cleaned
// stays for the next time.
func cleanLeftovers(base string) {
	base, err := filepath.EvalSymlinks(base) // as the table of mounts spells it
	if err != nil {
		return
	}
	entries, err := os.ReadDir(base)
	if err != nil {
		return
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), runPrefix) {
			cleanLeftover(filepath.Join(base, e.Name()))
		}
	}
}

func cleanLeftover(path string) {
	var stat unix.Stat_t
	if unix.Lstat(path, &stat) != nil || stat.Mode&unix.S_IFMT != unix.S_IFDIR || int(stat.Uid) != os.Geteuid() {
		return
	}
	lock, err := os.OpenFile(filepath.Join(path, lockFile), os.O_RDWR|unix.O_NOFOLLOW, 0)
	if errors.Is(err, os.ErrNotExist) {
		if time.Since(time.Unix(stat.Mtim.Unix())) > unlockedAge {
			os.Remove(path) // if it is empty
		}
		return
	}
	if err != nil {
		return
	}
	defer lock.Close()
	if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return // somebody lives
	}
	table, err := mountTable()
	if err != nil {
		return
	}
	for _, m := range table {
		if strings.HasPrefix(m.point, path+"/") {
			_ = unmount(m.point, m.device)
		}
	}
	var record mountRecord
	if data, err := os.ReadFile(filepath.Join(path, mountFile)); err == nil && json.Unmarshal(data, &record) == nil {
		record.unmount()
	}
	_ = removeRun(path)
}
