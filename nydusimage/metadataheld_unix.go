//go:build linux || darwin

package nydusimage

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// createUnfinished makes a file that is renamed when all of it is written. It is held
// until release, by which others know that its writer lives.
func createUnfinished(dir string) (file *os.File, release func(), err error) {
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
	if file, err := hold(path); err == nil {
		_ = os.Remove(path)
		file.Close()
	}
}

// hold locks a file until it is closed, if nobody else has.
func hold(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	if err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
		_, err = os.Lstat(path) // it may be gone since it was opened; names do not come again
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}
