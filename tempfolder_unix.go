//go:build linux || darwin

package main

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	xos "github.com/aquasecurity/trivy/pkg/x/os"
)

// tempPrefix begins the names of folders that hold Trivy's folder for temporary
// files, in the folder for temporary files of the user.
const tempPrefix = "trivy-nydus-temp-"

// ownTempFolder lets Trivy keep its temporary files in a folder of ours, which is
// locked while this process lives, and removes those of processes that were killed:
// Trivy's own folder bears no name by which that could be told. remove is to be
// called at the end. Where no folder can be made, Trivy's stays where it puts it.
func ownTempFolder() (remove func()) {
	base := os.TempDir()
	removeDeadTempFolders(base)
	folder, err := lockedTempFolder(base)
	if err != nil {
		return func() {}
	}
	// Trivy makes its folder once, when it is first asked for it. Others go on as before.
	set, was := os.LookupEnv("TMPDIR")
	_ = os.Setenv("TMPDIR", folder.Name())
	xos.TempDir()
	if was {
		_ = os.Setenv("TMPDIR", set)
	} else {
		_ = os.Unsetenv("TMPDIR")
	}
	return func() {
		_ = os.RemoveAll(folder.Name())
		_ = folder.Close()
	}
}

// lockedTempFolder makes a folder. It is locked as long as it is open.
func lockedTempFolder(base string) (*os.File, error) {
	for range 10 {
		path, err := os.MkdirTemp(base, tempPrefix) // for the user only
		if err != nil {
			return nil, err
		}
		folder, err := lockFolder(path)
		if err == nil {
			return folder, nil
		}
		_ = os.Remove(path)
		// Somebody who cleans up may have been faster, and took it for left behind.
		if !errors.Is(err, errNotOurs) && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	return nil, errNotOurs
}

// errNotOurs says that a folder is locked by another process, was removed, or
// belongs to somebody else.
var errNotOurs = errors.New("not a folder of this process")

// lockFolder opens a folder of this user and locks it, if nobody else has. Links are
// not followed.
func lockFolder(path string) (*os.File, error) {
	folder, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	var open, there unix.Stat_t
	switch {
	case unix.Fstat(int(folder.Fd()), &open) != nil, int(open.Uid) != os.Geteuid():
		err = errNotOurs
	case unix.Flock(int(folder.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil:
		err = errNotOurs
	case unix.Lstat(path, &there) != nil, there.Dev != open.Dev, there.Ino != open.Ino:
		err = errNotOurs
	}
	if err != nil {
		_ = folder.Close()
		return nil, err
	}
	return folder, nil
}

// removeDeadTempFolders removes what processes of this user left that were killed.
func removeDeadTempFolders(base string) {
	paths, _ := filepath.Glob(filepath.Join(base, tempPrefix+"*"))
	for _, path := range paths {
		if folder, err := lockFolder(path); err == nil {
			_ = os.RemoveAll(path)
			_ = folder.Close()
		}
	}
}
