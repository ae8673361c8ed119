package main

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	checks "github.com/aquasecurity/trivy-checks"
	"github.com/aquasecurity/trivy/pkg/iac/rego"
	iactypes "github.com/aquasecurity/trivy/pkg/iac/types"
	"github.com/aquasecurity/trivy/pkg/log"
	"github.com/aquasecurity/trivy/pkg/misconf"
)

// Trivy evaluates checks on any JSON and YAML file, though its own checks are about
// Dockerfiles, Kubernetes and clouds. A check says so: it is passed over for an input
// of another type than all that it selects (isPolicyApplicable in pkg/iac/rego of Trivy).
// To read that takes a tenth of a second, to compile the checks many.

// aboutRaw says whether any check could be about JSON or YAML as such; also where that
// cannot be told.
func aboutRaw(option misconf.ScannerOption) bool {
	var sources []fs.FS
	if !option.DisableEmbeddedPolicies {
		sources = append(sources, checks.EmbeddedPolicyFileSystem)
	}
	if !option.DisableEmbeddedLibraries {
		sources = append(sources, checks.EmbeddedLibraryFileSystem)
	}
	for _, path := range option.PolicyPaths {
		if info, err := os.Stat(path); err != nil || !info.IsDir() {
			return true
		}
		sources = append(sources, os.DirFS(path))
	}
	return slices.ContainsFunc(sources, anyAboutRaw)
}

// anyAboutRaw asks all checks in a folder.
func anyAboutRaw(source fs.FS) bool {
	err := fs.WalkDir(source, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !rego.IsRegoFile(name) {
			return err
		}
		text, err := fs.ReadFile(source, name)
		if err != nil {
			return err
		}
		if isAboutRaw(text) {
			log.Debug("A misconfiguration check may be about any JSON or YAML file", log.FilePath(name))
			return errors.New("found")
		}
		return nil
	})
	return err != nil
}

// enforced are rules that make a finding; a module without one makes none.
var enforced = regexp.MustCompile(`(?m)^\s*(default\s+)?deny(_\w+)?\b`)

// isAboutRaw asks one module of checks, by the annotation of its package.
func isAboutRaw(module []byte) bool {
	if !enforced.Match(module) {
		return false
	}
	var annotation struct {
		Custom struct {
			Input struct {
				Selector []struct{ Type string }
			}
		}
	}
	if yaml.Unmarshal(packageAnnotation(module), &annotation) != nil {
		return true
	}
	raw := []string{string(iactypes.SourceJSON), string(iactypes.SourceYAML)}
	for _, selector := range annotation.Custom.Input.Selector {
		if selector.Type != "" && !slices.Contains(raw, selector.Type) {
			return false
		}
	}
	return true
}

// packageAnnotation is the YAML in the comment before the line that names the package.
func packageAnnotation(module []byte) []byte {
	before, _, found := bytes.Cut(module, []byte("\npackage "))
	_, annotation, annotated := strings.Cut(string(before), "# METADATA\n")
	if !found || !annotated {
		return nil
	}
	var lines []string
	for line := range strings.Lines(annotation) {
		lines = append(lines, strings.TrimPrefix(strings.TrimPrefix(line, "#"), " "))
	}
	return []byte(strings.Join(lines, ""))
}
