//go:build linux

package bench

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestScanAdd(t *testing.T) {
	var s Scan
	for _, script := range []string{"true", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"} {
		cmd := exec.Command("sh", "-c", script)
		require.NoError(t, cmd.Run())
		s.add(cmd.ProcessState)
	}
	assert.Greater(t, s.CPU, 10*time.Millisecond, "that of the second")
	assert.Greater(t, s.PeakMemory, int64(500e3), "bytes, not kilobytes")
}

func TestWatchDisk(t *testing.T) {
	dir := t.TempDir()
	stop := watchDisk(dir)
	name := filepath.Join(dir, "below", "file")
	require.NoError(t, os.Mkdir(filepath.Dir(name), 0o755))
	require.NoError(t, os.WriteFile(name, make([]byte, 1<<20), 0o644))
	require.NoError(t, os.Symlink("/", filepath.Join(dir, "everything")))
	require.Eventually(t, func() bool { return diskUse(dir) >= 1<<20 }, 10*time.Second, time.Millisecond)
	time.Sleep(50 * time.Millisecond) // for the sampler
	require.NoError(t, os.Remove(name))
	most := stop()
	assert.GreaterOrEqual(t, most, int64(1<<20), "what is gone was seen")
	assert.Less(t, most, int64(2<<20), "links are not followed")
	assert.Less(t, diskUse(dir), int64(1<<20))
}

func TestReportLacks(t *testing.T) {
	read := func(text string) report {
		file := filepath.Join(t.TempDir(), "report.json")
		require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
		return readReport(t, file)
	}
	image := read(`{"Results": [
		{"Target": "host/image:tag (debian 12)", "Type": "debian", "Packages": [{"Name": "a", "Version": "1"}],
			"Vulnerabilities": [{"VulnerabilityID": "CVE-1", "PkgName": "a", "InstalledVersion": "1"}]},
		{"Target": "/srv/token", "Secrets": [{"RuleID": "r", "StartLine": 1}, {"RuleID": "r", "StartLine": 1}]},
		{"Target": "/Dockerfile", "Misconfigurations": [{"ID": "DS1", "Status": "FAIL"}, {"ID": "DS2", "Status": "PASS"}]}]}`)
	folder := read(`{"Results": [
		{"Target": "/mnt (debian 12)", "Type": "debian", "Packages": [{"Name": "a", "Version": "1"}, {"Name": "b", "Version": "1"}]},
		{"Target": "srv/token", "Secrets": [{"RuleID": "r", "StartLine": 1}]},
		{"Target": "Dockerfile", "Misconfigurations": [{"ID": "DS1", "Status": "FAIL"}]}]}`)
	assert.Equal(t, 4, sum(image.findings))
	assert.Equal(t, 1, sum(image.packages))
	assert.Equal(t, 2, folder.lacks(image), "the vulnerability, one of the secrets")
	assert.Equal(t, 1, image.lacks(folder), "package b")
	assert.Zero(t, image.lacks(image))
}
