//go:build linux || darwin

package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTempFolders: a folder that a process holds stays, one that nobody holds goes,
// and nothing else is touched.
func TestTempFolders(t *testing.T) {
	base := t.TempDir()
	alive, err := lockedTempFolder(base)
	require.NoError(t, err)
	defer alive.Close()
	dead, err := lockedTempFolder(base)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dead.Name(), "left"), nil, 0o600))
	require.NoError(t, dead.Close())
	elsewhere := t.TempDir()
	link := filepath.Join(base, tempPrefix+"link")
	require.NoError(t, os.Symlink(elsewhere, link))
	file := filepath.Join(base, tempPrefix+"file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	others := filepath.Join(base, "trivy-1234")
	require.NoError(t, os.Mkdir(others, 0o700))
	if os.Geteuid() == 0 {
		foreign := filepath.Join(base, tempPrefix+"foreign")
		require.NoError(t, os.Mkdir(foreign, 0o700))
		require.NoError(t, os.Chown(foreign, 12345, 12345))
		defer func() { require.DirExists(t, foreign) }()
	}
	removeDeadTempFolders(base)
	require.NoDirExists(t, dead.Name())
	for _, path := range []string{alive.Name(), elsewhere, others} {
		require.DirExists(t, path)
	}
	require.FileExists(t, file)
	_, err = os.Lstat(link)
	require.NoError(t, err)
}
