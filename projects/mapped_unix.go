//go:build unix

package projects

import (
	"os"

	"golang.org/x/sys/unix"
)

// mapped is what a file holds, in memory of the kernel's that it can take back.
func mapped(f *os.File) ([]byte, error) {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return nil, err
	}
	return unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_PRIVATE)
}
