//go:build linux || darwin

package artifact

import (
	"os"

	"golang.org/x/sys/unix"
)

// newCacheFile is what bbolt writes first, in one go: four pages, of 4 KiB or more.
const newCacheFile = 4 * 4096

// emptyUnfinished empties the file of Trivy's cache where a full disk or a killed
// process let none but a part of a new one be written: bbolt, which makes anew an empty
// one, refuses such a file ever after, or ends with a bus error at a page that is not
// there. While somebody has it open it is left as it is.
func emptyUnfinished(path string) {
	unfinished := func(info os.FileInfo, err error) bool {
		return err == nil && info.Mode().IsRegular() && info.Size() > 0 && info.Size() < newCacheFile
	}
	if !unfinished(os.Stat(path)) {
		return
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return
	}
	defer file.Close()
	// bbolt's own lock.
	if unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil && unfinished(file.Stat()) {
		_ = file.Truncate(0)
	}
}
