package inspect

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// createWhole creates a file without a name, of which nothing is left when the process is
// killed, where the file system and /proc allow that.
func createWhole(name string) (*wholeFile, error) {
	fd, err := unix.Open(filepath.Dir(name), unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, 0o666)
	if err != nil {
		return createPartial(name)
	}
	open := fmt.Sprintf("/proc/self/fd/%d", fd)
	if _, err := os.Lstat(open); err != nil {
		_ = unix.Close(fd)
		return createPartial(name)
	}
	return &wholeFile{File: os.NewFile(uintptr(fd), name), name: name, link: func(name string) error {
		if err := unix.Linkat(unix.AT_FDCWD, open, unix.AT_FDCWD, name, unix.AT_SYMLINK_FOLLOW); err != nil {
			return &os.LinkError{Op: "link", Old: open, New: name, Err: err}
		}
		return nil
	}}, nil
}
