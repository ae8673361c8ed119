package main

import (
	"errors"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
)

// A mountError says why an image could not be mounted by the mount command.
type mountError struct{ error }

func (e mountError) Unwrap() error { return e.error }

// hint is what to do about it; the usual one where the command is no other than a
// scan.
func (e mountError) hint() string {
	var wrong usageError
	var plain *nydusimage.NotNydusError
	switch {
	case errors.As(e.error, &wrong):
		return "see trivy nydus mount --help"
	case errors.As(e.error, &plain):
		return "give a Nydus image"
	case errors.Is(e.error, nydusmount.ErrBackend):
		return "say where the data lies, with --backend-type and --backend-config-file"
	case errors.Is(e.error, nydusmount.ErrMountPoint):
		return "give an empty folder at which nothing is mounted"
	case errors.Is(e.error, nydusmount.ErrNydusd), errors.Is(e.error, nydusmount.ErrRefused):
		return "trivy nydus scans an image without nydusd"
	}
	return hint(e.error)
}
