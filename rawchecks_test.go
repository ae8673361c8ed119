package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	checks "github.com/aquasecurity/trivy-checks"
	"github.com/aquasecurity/trivy/pkg/iac/rego"
	"github.com/aquasecurity/trivy/pkg/misconf"
)

// TestTrivysChecksAreNotAboutRaw: by their text, and by what Trivy makes of it.
func TestTrivysChecksAreNotAboutRaw(t *testing.T) {
	assert.False(t, aboutRaw(misconf.ScannerOption{}))
	modules, err := rego.LoadEmbeddedPolicies()
	require.NoError(t, err)
	require.Greater(t, len(modules), 400)
	retriever := rego.NewMetadataRetriever(nil)
	for name, module := range modules {
		metadata, err := retriever.RetrieveMetadata(t.Context(), module)
		require.NoError(t, err, name)
		require.NotEmpty(t, metadata.InputOptions.Selectors, name)
		for _, selector := range metadata.InputOptions.Selectors {
			assert.NotContains(t, []string{"json", "yaml"}, selector.Type, name)
		}
		text, err := checks.EmbeddedPolicyFileSystem.ReadFile(name)
		require.NoError(t, err)
		denies := slices.ContainsFunc(module.Rules, func(r *ast.Rule) bool { return strings.HasPrefix(r.Head.Name.String(), "deny") })
		assert.Equal(t, denies, enforced.Match(text), name)
	}
}

func TestChecksAboutRaw(t *testing.T) {
	const rule = "\npackage user.a\n\nimport rego.v1\n\ndeny contains res if {\n\tres := input.a\n}\n"
	selecting := func(types ...string) string {
		text := "# METADATA\n# title: a\n# custom:\n#   input:\n#     selector:\n"
		for _, name := range types {
			text += "#     - type: " + name + "\n"
		}
		return text + "#   id: A" + rule
	}
	for name, c := range map[string]struct {
		text string
		want bool
	}{
		"of Dockerfiles":          {selecting("dockerfile"), false},
		"of JSON":                 {selecting("json"), true},
		"of YAML":                 {selecting("yaml"), true},
		"of JSON and clouds":      {selecting("json", "cloud"), false}, // which Trivy never takes
		"of nothing":              {selecting(), true},
		"without annotation":      {rule, true},
		"annotated elsewhere":     {rule + "# METADATA\n# custom:\n#   input:\n#     selector:\n#     - type: cloud\nwarn := 1\n", true},
		"with a broken one":       {"# METADATA\n# title: [" + rule, true},
		"with another deny":       {"package a\n\ndeny_it[res] {\n\tres := 1\n}\n", true},
		"a library":               {"package lib.a\n\nname := 1\n", false},
		"a library with comments": {"# deny is not here\npackage lib.a\n\nname := 1\n", false},
		"with a default":          {"package a\n\ndefault deny := false\n", true},
	} {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "check.rego"), []byte(c.text), 0o600))
		assert.Equal(t, c.want, aboutRaw(misconf.ScannerOption{DisableEmbeddedPolicies: true, DisableEmbeddedLibraries: true, PolicyPaths: []string{dir}}), name)
	}
	assert.True(t, aboutRaw(misconf.ScannerOption{PolicyPaths: []string{filepath.Join(t.TempDir(), "gone")}}), "who knows")
}
