//go:build linux

package testimage_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
)

// TestSpecsMount converts the images with real content and compares all that nydusd shows with their layers.
func TestSpecsMount(t *testing.T) {
	for name, make := range map[string]func(testing.TB) testimage.Spec{
		"debian-app": testimage.DebianApp, "tiny": testimage.Tiny, "secret-cmd": testimage.SecretCmd,
	} {
		for _, version := range []string{"5", "6"} {
			t.Run(name+"/v"+version, func(t *testing.T) {
				spec := make(t)
				nydus := testimage.Convert(t, testimage.BuildOCI(t, spec), testimage.ConvertOptions{FSVersion: version})
				root := testimage.Mount(t, nydus.BootstrapPath, nydus.BlobDir)
				compareTree(t, root, testimage.Flatten(spec.Layers...))
			})
		}
	}
}

func TestDebianAppContent(t *testing.T) {
	tree := testimage.Flatten(testimage.DebianApp(t).Layers...)
	for path, pattern := range map[string]string{
		"var/lib/dpkg/status":                                              `(?s)Package: bash\nStatus: install ok installed\n.*Package: curl\n`,
		"var/lib/dpkg/info/curl.md5sums":                                   `(?m)^[0-9a-f]{32}  usr/bin/curl$`,
		"var/lib/dpkg/info/libc6:amd64.list":                               `(?m)^/lib/x86_64-linux-gnu/libc.so.6$`,
		"usr/lib/os-release":                                               `(?m)^ID=debian$`,
		"etc/debian_version":                                               `^\d+`,
		"usr/lib/x86_64-linux-gnu/libc.so.6":                               `^\x7fELF`,
		"usr/bin/bash":                                                     `^\x7fELF`,
		"usr/local/bin/app":                                                `golang.org/x/text\tv0.3.5`,
		"usr/lib/node_modules/lodash/package.json":                         `"version": "4.17.20"`,
		"usr/lib/node_modules/minimist/package.json":                       `"version": "1.2.6"`,
		"usr/lib/python3/dist-packages/requests-2.19.1.dist-info/METADATA": `(?m)^Version: 2.19.1\s*$`,
		"opt/app/commons-io-2.4.jar":                                       `^PK`,
		testimage.SecretPath:                                               `GITHUB_PAT=ghp_[0-9A-Za-z]{36}\n`,
		"srv/app/settings.ini":                                             `new`,
	} {
		file, ok := tree[path]
		if !assert.True(t, ok, "%s is not in the image", path) {
			continue
		}
		assert.True(t, regexp.MustCompile(pattern).Match(file.Data), "%s (%d bytes) does not match %s",
			path, len(file.Data), pattern)
	}
	assert.NotContains(t, tree, testimage.DeletedSecretPath)
	assert.Equal(t, testimage.Symlink, tree["bin"].Type)
}

// TestKnownLosses pins down where nydus-image 2.2.0 does not keep what the layers say, which Lossy and WhiteoutInBase
// are for.
func TestKnownLosses(t *testing.T) {
	mount := func(spec testimage.Spec) string {
		nydus := testimage.Convert(t, testimage.BuildOCI(t, spec), testimage.ConvertOptions{})
		return testimage.Mount(t, nydus.BootstrapPath, nydus.BlobDir)
	}
	spec := testimage.Lossy(t)
	root := mount(spec)
	var lost []string
	for path, file := range testimage.Flatten(spec.Layers...) {
		if mounted(t, filepath.Join(root, path)) != described(file) {
			lost = append(lost, path)
		}
	}
	slices.Sort(lost)
	assert.Equal(t, []string{"fifo", "fifo-too", "owner", "time"}, lost)

	entries, err := os.ReadDir(mount(testimage.WhiteoutInBase(t)))
	require.NoError(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	assert.Equal(t, ".wh.nothere file upper", strings.Join(names, " "))
}
