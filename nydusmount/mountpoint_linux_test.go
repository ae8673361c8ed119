package nydusmount_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
)

// waiting is a nydusd that does nothing until the test lets it: it has been asked when
// there is the one file, and goes on when there is the other.
func waiting(t *testing.T, mount string) (program, asked, gate string) {
	t.Helper()
	dir := t.TempDir()
	program, asked, gate = filepath.Join(dir, "nydusd"), filepath.Join(dir, "asked"), filepath.Join(dir, "gate")
	text := fmt.Sprintf("#!/bin/sh\ntouch %s\nwhile ! [ -e %s ]; do sleep 0.05; done\n[ \"$1\" != fuse ] || %s\nexec %s \"$@\"\n", asked, gate, mount, testimage.Tools(t).Nydusd)
	require.NoError(t, os.WriteFile(program, []byte(text), 0o755))
	return program, asked, gate
}

// TestMountPointTakenMeanwhile: another mounts at the same folder after the plugin has
// looked at it. The second is refused, and the first is left alone.
func TestMountPointTakenMeanwhile(t *testing.T) {
	dir, point := temp(t), t.TempDir()
	image := layout(t, testimage.Tiny(t), testimage.ConvertOptions{})
	slow, asked, gate := waiting(t, "exit 3")
	second := make(chan error)
	go func() {
		_, err := nydusmount.StartDaemon(context.WithoutCancel(t.Context()), image, nydusmount.Options{Program: slow, MountPoint: point})
		second <- err
	}()
	require.Eventually(t, func() bool { _, err := os.Stat(asked); return err == nil }, 10*time.Second, 10*time.Millisecond)
	first, err := nydusmount.StartDaemon(t.Context(), image, nydusmount.Options{Program: testimage.Tools(t).Nydusd, MountPoint: point})
	require.NoError(t, err)
	defer first.Close()
	require.NoError(t, os.WriteFile(gate, nil, 0o644))
	err = <-second
	assert.ErrorIs(t, err, nydusmount.ErrMountPoint)
	assert.ErrorContains(t, err, "mounted there already (fuse)")
	_, err = os.ReadFile(filepath.Join(point, testimage.SecretPath))
	assert.NoError(t, err, "the first mount")
	require.NoError(t, first.Close())
	assertGone(t, dir)
	assertGone(t, filepath.Dir(point))
}

// TestMountPointLeadsElsewhere: a folder above the mount point is replaced by a link after
// the plugin has looked. Nothing is mounted where that leads.
func TestMountPointLeadsElsewhere(t *testing.T) {
	dir, base := temp(t), t.TempDir()
	image := layout(t, testimage.Tiny(t), testimage.ConvertOptions{})
	for _, folder := range []string{"x/app", "other/app"} {
		require.NoError(t, os.MkdirAll(filepath.Join(base, folder), 0o755))
	}
	slow, asked, gate := waiting(t, ":")
	mounted := make(chan error)
	go func() {
		daemon, err := nydusmount.StartDaemon(context.WithoutCancel(t.Context()), image,
			nydusmount.Options{Program: slow, MountPoint: filepath.Join(base, "x/app"), StartTimeout: 2 * time.Second})
		if err == nil {
			daemon.Close()
		}
		mounted <- err
	}()
	require.Eventually(t, func() bool { _, err := os.Stat(asked); return err == nil }, 10*time.Second, 10*time.Millisecond)
	require.NoError(t, os.Rename(filepath.Join(base, "x"), filepath.Join(base, "y")))
	require.NoError(t, os.Symlink("other", filepath.Join(base, "x")))
	require.NoError(t, os.WriteFile(gate, nil, 0o644))
	err := <-mounted
	assert.ErrorIs(t, err, nydusmount.ErrMountPoint)
	assert.ErrorContains(t, err, "it leads to "+filepath.Join(base, "other/app")+" by now")
	assertGone(t, dir)
	assertGone(t, base)
}
