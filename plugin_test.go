package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
)

// TestInstalledPlugin installs the archive of `make dist` for this platform with
// the real trivy and scans through it.
func TestInstalledPlugin(t *testing.T) {
	if out, err := exec.Command("make", "--no-print-directory", "trivy", "archive").CombinedOutput(); err != nil {
		t.Fatalf("make trivy archive: %v\n%s", err, out)
	}
	archive := strings.TrimSpace(output(t, exec.Command("make", "--no-print-directory", "-s", "print-archive")))
	trivy, err := filepath.Abs("bin/trivy")
	require.NoError(t, err)
	home := t.TempDir()
	environment := append(os.Environ(), "HOME="+home, "XDG_DATA_HOME="+home)
	environment = append(environment, offline(fixtureCache(t))...)
	run := func(args ...string) (stdout, stderr, code string) {
		var out, errs bytes.Buffer
		cmd := exec.Command(trivy, args...)
		cmd.Env, cmd.Stdout, cmd.Stderr = environment, &out, &errs
		code = exitCode(cmd.Run())
		return out.String(), errs.String(), code
	}

	_, stderr, code := run("plugin", "install", archive)
	require.Equal(t, "0", code, stderr)
	stdout, _, _ := run("plugin", "list")
	require.Contains(t, stdout, "nydus")
	// A second time it replaces the first.
	_, stderr, code = run("plugin", "install", archive)
	require.Equal(t, "0", code, stderr)

	stdout, _, code = run("nydus", "version")
	require.Equal(t, "0", code)
	require.NotContains(t, stdout, "dev", "the versions that make sets")

	registry := testregistry.Start(t)
	pushed := registry.Host() + "/demo:nydus"
	testimage.Push(t, pushed, demoImage(t, "v6"))
	for _, reference := range []string{demoLayout + ":v6", pushed} {
		t.Run(strings.TrimPrefix(reference, registry.Host()), func(t *testing.T) {
			before, stderr, code := run("nydus", "--quiet", "--scanners", "vuln,secret", "--exit-code", "1", reference)
			require.Equal(t, "1", code, stderr)
			require.Empty(t, stderr)
			require.Contains(t, before, "CVE-2021-44906")
			require.Contains(t, before, "deleted.env (secrets)")
			// Trivy hands its own flags on in front.
			after, stderr, code := run("--quiet", "nydus", "scan", "--scanners", "vuln,secret", "--exit-code", "1", reference)
			require.Equal(t, "1", code, stderr)
			require.Empty(t, stderr)
			require.Equal(t, before, after)
		})
	}

	altered := filepath.Join(t.TempDir(), "altered")
	require.NoError(t, alter(demoLayout, "v5", testimage.SecretPath, altered))
	stdout, stderr, code = run("nydus", "--scanners", "secret", altered+":v5")
	require.Equal(t, "2", code, stderr)
	require.Empty(t, stdout)
}

// TestPluginFolder: a folder for one platform names no other.
func TestPluginFolder(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "plugin")
	binary := filepath.Join(t.TempDir(), "binary")
	require.NoError(t, os.WriteFile(binary, []byte("not for here"), 0o755))
	out, err := exec.Command("scripts/plugin.sh", "windows_arm64", "1.2.3", binary, folder).CombinedOutput()
	require.NoError(t, err, string(out))
	require.FileExists(t, filepath.Join(folder, "trivy-nydus.exe"))
	yaml, err := os.ReadFile(filepath.Join(folder, "plugin.yaml"))
	require.NoError(t, err)
	require.Contains(t, string(yaml), "version: 1.2.3\n")
	require.Equal(t, 1, strings.Count(string(yaml), "selector:"))

	out, err = exec.Command("scripts/plugin.sh", "plan9_amd64", "1.2.3", binary, folder).CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "no platform plan9_amd64")
}

func output(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	require.NoError(t, err, cmd.String())
	return string(out)
}
