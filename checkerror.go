package main

import (
	"errors"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
)

// A checkError says why a check could not be completed.
type checkError struct{ error }

func (e checkError) Unwrap() error { return e.error }

// hint is what to do about it: that of a scan, but for what its flags are called
// and that there is a report.
func (e checkError) hint() string {
	var plain *nydusimage.NotNydusError
	var wrong usageError
	switch {
	case errors.As(e.error, &wrong):
		return "see trivy nydus check --help"
	case errors.As(e.error, &plain), errors.Is(e.error, nydusimage.ErrNydus):
		return "give the OCI image first, then the Nydus image"
	case errors.Is(e.error, errAmbiguous):
		return "name the two images by their digests"
	case errors.Is(e.error, nydusimage.ErrUnauthorized):
		return "log in with docker login or podman login, or give --source-username and TRIVY_SOURCE_PASSWORD, or the same for the target"
	case errors.Is(e.error, nydusmount.ErrUnvouched):
		return "read and verify the blobs themselves with --data full"
	case errors.Is(e.error, nydusmount.ErrNydusd), errors.Is(e.error, nydusmount.ErrRefused):
		return "a check with --mount native needs no nydusd"
	}
	return hint(e.error)
}
