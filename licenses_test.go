package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/aquasecurity/trivy/pkg/licensing"
)

// allowedLicenses are those under which the binary may be handed on under Apache-2.0.
// MPL-2.0 is for modules that are used as they are, by files.
var allowedLicenses = []string{"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MPL-2.0", "Unlicense", "Zlib", "0BSD", "CC0-1.0"}

// otherLicenses are findings beside the allowed ones, by module, with the reason why
// they may be there.
var otherLicenses = map[string][]string{
	"github.com/apparentlymart/go-textseg/v15": {"Unicode-DFS-2016"},     // of Unicode's tables, which it is made from: permissive
	"github.com/opencontainers/go-digest":      {"CC-BY-SA-4.0"},         // of its documents, which are not in the binary
	"github.com/spdx/tools-golang":             {"GPL-2.0", "CC-BY-4.0"}, // Apache-2.0 or, by choice, GPL-2.0; documents
	"github.com/xi2/xz":                        {"XZ"},                   // in the public domain
}

// TestLicenses: all modules in the binaries of all platforms have a license that is
// allowed, by the files that they bring.
func TestLicenses(t *testing.T) {
	manifest, err := os.ReadFile("plugin.yaml")
	require.NoError(t, err)
	platforms := regexp.MustCompile(`os: (\w+), arch: (\w+)`).FindAllStringSubmatch(string(manifest), -1)
	require.NotEmpty(t, platforms)
	var modules []string
	for _, p := range platforms {
		list := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}}@{{.Version}}\t{{.Dir}}{{end}}{{end}}", ".")
		list.Env = append(os.Environ(), "GOOS="+p[1], "GOARCH="+p[2])
		modules = append(modules, strings.Split(strings.TrimSpace(output(t, list)), "\n")...)
	}
	slices.Sort(modules)
	modules = slices.DeleteFunc(slices.Compact(modules), func(m string) bool { return m == "" })
	require.Greater(t, len(modules), 100)
	known := make(map[string][]string) // what is found, by the file's text: many modules share one
	name := regexp.MustCompile(`(?i)^(licen[sc]e|copying|unlicense)`)
	for _, m := range modules {
		module, dir, _ := strings.Cut(m, "\t")
		var found []string
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		for _, e := range entries {
			if e.IsDir() || !name.MatchString(e.Name()) {
				continue
			}
			text, err := os.ReadFile(filepath.Join(dir, e.Name()))
			require.NoError(t, err)
			names, classified := known[string(text)]
			if !classified {
				license, err := licensing.Classify(e.Name(), bytes.NewReader(text), 0.8)
				require.NoError(t, err)
				for _, f := range license.Findings {
					names = append(names, f.Name)
				}
				known[string(text)] = names
			}
			found = append(found, names...)
		}
		path, _, _ := strings.Cut(module, "@")
		allowed := slices.Concat(allowedLicenses, otherLicenses[path])
		bad := slices.ContainsFunc(found, func(l string) bool { return !slices.Contains(allowed, l) })
		if len(found) == 0 || bad {
			t.Errorf("%s: %v", module, found)
		}
	}
}
