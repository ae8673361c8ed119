//go:build !linux

package nydusmount

import (
	"context"
	"fmt"
	"runtime"
)

// A Daemon is a nydusd that serves an image at MountPoint, on Linux only.
type Daemon struct{ MountPoint string }

func errLinux() error {
	return fmt.Errorf("%w mounts on Linux only, this is %s", ErrRefused, runtime.GOOS)
}

// CheckMountPoint fails: nydusd mounts on Linux only.
func CheckMountPoint(string) (string, error) { return "", errLinux() }

// Watcher runs nothing.
func Watcher([]string) (int, bool) { return 0, false }

func checkFUSE() error { return errLinux() }

func launch(context.Context, job) (*Daemon, error) { return nil, errLinux() }

// Done is never closed.
func (d *Daemon) Done() <-chan struct{} { return nil }

// Err is nil.
func (d *Daemon) Err() error { return nil }

// Close does nothing.
func (d *Daemon) Close() error { return nil }

// Traffic is none.
func (d *Daemon) Traffic(context.Context) (requests, bytes int64) { return 0, 0 }

// Cause is the error itself.
func (d *Daemon) Cause(err error) error { return err }

func (d *Daemon) cause(err error) error { return err }

func (d *Daemon) onClose(func() error) {}

// EndWith does nothing.
func (d *Daemon) EndWith(context.Context) {}
