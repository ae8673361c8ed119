package nydusmount

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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
	// Boot is the machine's run: of an earlier one no mount is left, and the numbers of
	// devices are given anew.
	Boot string
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
		err = flock(lock)
		if err == nil && isAt(lock, lock.Name()) {
			return &runFolder{path, lock}, nil
		}
		lock.Close()
		if err != nil && !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("lock the run folder: %w: choose another folder for temporary files, with TMPDIR", &os.PathError{Op: "flock", Path: path, Err: err}),
				os.RemoveAll(path))
		}
	}
	return nil, errors.New("make a run folder: others remove it again and again")
}

// flock locks an open file against other processes; EWOULDBLOCK says that one has it. Not
// all filesystems can.
var flock = func(file *os.File) error { return unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB) }

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
	data, err := json.Marshal(mountRecord{point, device, bootID()})
	if err != nil {
		return err
	}
	next := mountFile + ".next" // whole or not at all
	if err := r.write(next, data); err != nil {
		return err
	}
	return os.Rename(r.file(next), r.file(mountFile))
}

// bootID identifies the machine's run; "" where the kernel does not say.
func bootID() string {
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id))
}

// readRecord reads what is mounted where; nil is nothing.
func readRecord(folder string) *mountRecord {
	data, err := os.ReadFile(filepath.Join(folder, mountFile))
	if err != nil {
		return nil
	}
	record := new(mountRecord)
	if json.Unmarshal(data, record) != nil || record.Boot != bootID() {
		return nil
	}
	return record
}

// mounts finds what nydusd, which is dead, had mounted and is there still. The number of
// its device may be that of another's filesystem by now, and before that was known another
// may have mounted at its point: they have a server.
func (m *mountRecord) mounts() ([]mountEntry, error) {
	found, err := mountsOf(m.Device)
	if m.Device == "" {
		var top *mountEntry
		if top, err = topMount(m.Point); top != nil && top.isFUSE() {
			found = []mountEntry{*top}
		}
	}
	return slices.DeleteFunc(found, func(e mountEntry) bool { return !e.serverless() }), err
}

// serverless says whether the server of a FUSE mount has gone. One that was just killed
// may still be going. Of a mount that is covered nobody can tell: it counts as if.
func (m *mountEntry) serverless() bool {
	const tries, pause = 10, 50 * time.Millisecond
	root, err := m.open()
	if err != nil {
		return true
	}
	answers := make(chan error, tries) // of one that hangs there is none
	go func() {
		defer root.Close()
		for range tries {
			var stat unix.Statfs_t
			answers <- unix.Fstatfs(int(root.Fd()), &stat)
			time.Sleep(pause)
		}
	}()
	timeout := time.After(2 * tries * pause)
	for range tries {
		select {
		case err := <-answers:
			if errors.Is(err, unix.ENOTCONN) || errors.Is(err, unix.ECONNABORTED) {
				return true
			}
		case <-timeout:
			return false
		}
	}
	return false
}

// remove takes the folder away. Nothing must be mounted in it.
func (r *runFolder) remove() error {
	defer r.lock.Close()
	return removeRun(r.path)
}

// removeRun removes a run folder, unless something that it tells of is mounted still.
// The lock goes last: without it nobody could tell a folder that is half removed from
// one that is just being made.
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
	if record := readRecord(path); record != nil {
		mounts, err := record.mounts()
		if err != nil {
			return err
		}
		if len(mounts) > 0 {
			return fmt.Errorf("%s is mounted still", mounts[0].point)
		}
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() != lockFile {
			if err := os.RemoveAll(filepath.Join(path, e.Name())); err != nil {
				return err
			}
		}
	}
	return os.RemoveAll(path)
}

// cleanLeftovers removes the run folders in base that nobody lives in: those of
// watchers that were killed. Their nydusd died with them. What cannot be cleaned
// stays for the next time.
func cleanLeftovers(base string) {
	base, err := filepath.Abs(base)
	if err == nil {
		base, err = filepath.EvalSymlinks(base) // as the table of mounts spells it
	}
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
	lock, err := lockLeftover(path, &stat)
	if errors.Is(err, os.ErrNotExist) {
		if time.Since(time.Unix(stat.Mtim.Unix())) > unlockedAge {
			os.Remove(path) // if it is empty: none of ours is without a lock before
		}
		return
	}
	if err != nil {
		return
	}
	defer lock.Close()
	table, err := mountTable()
	if err != nil {
		return
	}
	for _, m := range table {
		if m.isFUSE() && strings.HasPrefix(m.point, path+"/") {
			_ = m.unmount()
		}
	}
	if record := readRecord(path); record != nil && unmountAll(record.mounts) != nil {
		return
	}
	_ = removeRun(path)
}

// lockLeftover locks the run folder that was seen at a path. Another user may have put one
// of his own there meanwhile: who has the lock of ours can be sure that it stays.
func lockLeftover(path string, seen *unix.Stat_t) (*os.File, error) {
	lock, err := os.OpenFile(filepath.Join(path, lockFile), os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	var now unix.Stat_t
	if err = flock(lock); err == nil { // else somebody lives
		err = unix.Lstat(path, &now)
	}
	if err == nil && (now.Dev != seen.Dev || now.Ino != seen.Ino || now.Uid != seen.Uid || !isAt(lock, lock.Name())) {
		err = fmt.Errorf("%s is another by now", path)
	}
	if err != nil {
		lock.Close()
		return nil, err
	}
	return lock, nil
}
