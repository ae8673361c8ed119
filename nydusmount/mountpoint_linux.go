package nydusmount

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// CheckMountPoint returns the absolute path of a folder that can be mounted at:
// there, empty, no mount point yet. What crashes left there, and elsewhere, it takes away
// first. Errors wrap [ErrMountPoint].
func CheckMountPoint(dir string) (string, error) {
	refuse := func(format string, args ...any) (string, error) {
		return "", fmt.Errorf("%w %s: %w", ErrMountPoint, dir, fmt.Errorf(format, args...))
	}
	cleanLeftovers(os.TempDir()) // a crash may have left one of ours there
	path, err := filepath.Abs(dir)
	if err != nil {
		return refuse("%w", err)
	}
	path, err = filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		return refuse("there is no such folder")
	}
	if err != nil {
		return refuse("%w", err)
	}
	top, err := topMount(path)
	if err != nil {
		return refuse("%w", err)
	}
	if top != nil {
		return refuse("something is mounted there already (%s)", top.kind)
	}
	info, err := os.Stat(path)
	if err != nil {
		return refuse("%w", err)
	}
	if !info.IsDir() {
		return refuse("it is not a folder")
	}
	folder, err := os.Open(path)
	if err != nil {
		return refuse("%w", err)
	}
	defer folder.Close()
	if _, err := folder.Readdirnames(1); err == nil {
		return refuse("the folder is not empty")
	} else if !errors.Is(err, io.EOF) {
		return refuse("%w", err)
	}
	return path, nil
}

// checkFUSE says why nothing can be mounted, if that is clear from the start.
func checkFUSE() error {
	device, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	switch {
	case err == nil:
		return device.Close()
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w cannot mount: no right to use FUSE: %w: mounting needs root or a group that may open it", ErrNydusd, err)
	default:
		return fmt.Errorf("%w cannot mount: no FUSE here: %w: load the kernel's module fuse, or give the container --device /dev/fuse", ErrNydusd, err)
	}
}
