//go:build !linux

package testimage

import "testing"

// Mount skips the test: nydusd mounts on Linux only.
func Mount(t testing.TB, bootstrap, blobDir string) string {
	t.Helper()
	t.Skip("SKIPPED, NOTHING WAS COMPARED: nydusd mounts on Linux only")
	return ""
}

// MountUnvalidated skips the test, as [Mount].
func MountUnvalidated(t testing.TB, bootstrap, blobDir string) string {
	t.Helper()
	return Mount(t, bootstrap, blobDir)
}
