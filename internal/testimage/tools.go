package testimage

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// NydusVersion is the release of nydus-image and nydusd that the tests run.
const NydusVersion = "2.2.0"

// Toolset is the paths of the programs that tests run.
type Toolset struct {
	NydusImage     string
	Nydusd         string
	DockerRegistry string
}

// Tools finds the programs that scripts/tools.sh installs and fails the test where one is missing.
func Tools(t testing.TB) Toolset {
	t.Helper()
	bin := filepath.Join(CacheDir(t), "nydus-"+NydusVersion, "bin")
	return Toolset{
		NydusImage:     program(t, filepath.Join(bin, "nydus-image")),
		Nydusd:         program(t, filepath.Join(bin, "nydusd")),
		DockerRegistry: program(t, "/usr/bin/docker-registry", "docker-registry"),
	}
}

// program returns the first of the candidates, paths or names to look up, that can be run.
func program(t testing.TB, candidates ...string) string {
	t.Helper()
	for _, c := range candidates {
		if found, err := exec.LookPath(c); err == nil {
			return found
		}
	}
	t.Fatalf("none of %q can be run: run make tools", candidates)
	return ""
}
