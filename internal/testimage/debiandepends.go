package testimage

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// withDependencies lists the packages and all that they need on an empty Debian system, in the order of their names, but
// for those that are there: what apt-get would install.
func withDependencies(t testing.TB, there []string, packages ...string) []string {
	t.Helper()
	dir := cached(t, "deb-depends", cacheKey(packages...), func(dir string) error {
		out, err := run("", "apt-get", slices.Concat([]string{"install", "--simulate", "-q", "--no-install-recommends",
			"-o", emptySystem}, packages)...)
		if err != nil {
			return err
		}
		var names []string
		for line := range strings.Lines(string(out)) {
			if rest, ok := strings.CutPrefix(line, "Inst "); ok {
				name, _, _ := strings.Cut(rest, " ")
				names = append(names, name)
			}
		}
		return writeJSON(filepath.Join(dir, "packages.json"), names)
	})
	var names []string
	readJSON(t, filepath.Join(dir, "packages.json"), &names)
	slices.Sort(names)
	return slices.DeleteFunc(slices.Compact(names), func(name string) bool { return slices.Contains(there, name) })
}
