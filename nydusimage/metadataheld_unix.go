//go:build linux || darwin

package nydusimage

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// createUnfinished makes a file that is renamed when all of it is written. It is held
// until release, by which others know that its writer lives.
func createUnfinished(dir string) (file *os.File, release func(), err error) {
	// Nobody cleans up between the making of a file and its lock.
	if folder, err := lock(dir, unix.LOCK_SH); err == nil {
		defer folder.Close()
	}
	for range 10 {
		if file, err = os.CreateTemp(dir, newPrefix); err != nil {
			return nil, nil, err
		}
		held, err := hold(file.Name())
		switch {
		case err == nil:
			return file, func() { held.Close() }, nil
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.EWOULDBLOCK):
			file.Close() // somebody who cleans up was faster, and takes it for left behind
		default:
			return file, func() {}, nil // nobody can hold files here
		}
	}
	return nil, nil, fs.ErrNotExist
}

// removeAbandoned removes a file that nobody holds, if that can be told.
func removeAbandoned(path string) {
	folder, err := lock(filepath.Dir(path), unix.LOCK_EX|unix.LOCK_NB)
	if err != nil {
		return // another time
	}
	defer folder.Close()
	if file, err := hold(path); err == nil {
		_ = os.Remove(path)
		file.Close()
	}
}

// hold locks a file until it is closed, if nobody else has.
func hold(path string) (*os.File, error) {
	file, err := lock(path, unix.LOCK_EX|unix.LOCK_NB)
	if err != nil {
		return nil, err
	}
	if _, err = os.Lstat(path); err != nil { // it may be gone since it was opened; names do not come again
		file.Close()
		return nil, err
	}
	return file, nil
}

// lock locks a file or a folder until it is closed.
func lock(path string, how int) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(file.Fd()), how); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}
