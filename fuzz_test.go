package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestFuzzTargets: make test names each target of the tree, once.
func TestFuzzTargets(t *testing.T) {
	makefile, err := os.ReadFile("Makefile")
	require.NoError(t, err)
	var named []string
	for _, list := range regexp.MustCompile(`(?m)^(?:QUICK|SLOW)FUZZ := (.*)$`).FindAllSubmatch(makefile, -1) {
		named = append(named, strings.Split(string(list[1]), "|")...)
	}
	var targets []string
	for _, pattern := range []string{"*_test.go", "*/*_test.go", "*/*/*_test.go", "*/*/*/*_test.go"} {
		files, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, file := range files {
			source, err := os.ReadFile(file)
			require.NoError(t, err)
			for _, target := range regexp.MustCompile(`(?m)^func Fuzz(\w+)`).FindAllSubmatch(source, -1) {
				targets = append(targets, string(target[1]))
			}
		}
	}
	require.NotEmpty(t, targets)
	slices.Sort(named)
	slices.Sort(targets)
	assert.Equal(t, targets, named)
}
