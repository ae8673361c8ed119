//go:build !linux

package consistency

import (
	"errors"
	"fmt"
	"runtime"
)

// Dir is a [Filesystem] over a folder of this machine. It is there on Linux
// only: elsewhere a folder does not have all of the fields.
func Dir(root string) Filesystem { return unsupported(root) }

type unsupported string

func (u unsupported) Walk(func(Node) error) error {
	return fmt.Errorf("compare %s: folders are compared on Linux only, this is %s: %w", string(u), runtime.GOOS, errors.ErrUnsupported)
}
