package main

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/mod/modfile"
)

const modulePath = "github.com/trivy-plugin-nydus/trivy-plugin-nydus"

// A room is a row of the table in docs/architecture.md: a package may import
// those of the rows above it that are named, and other modules below the paths
// that are named.
type room struct {
	name   string
	ours   []string
	others []string // nil: any
	trivy  bool     // may import Trivy, even through others
}

var rooms = []room{
	{name: "rafs", others: []string{}},
	{name: "blob", ours: []string{"rafs"}, others: []string{
		"github.com/klauspost/compress", "github.com/pierrec/lz4/v4", "lukechampine.com/blake3", "golang.org/x"}},
	{name: "ocicrypt", others: []string{"github.com/ProtonMail/go-crypto", "github.com/go-jose/go-jose/v4"}},
	{name: "nydusimage", ours: []string{"rafs", "blob", "ocicrypt"}, others: []string{
		"github.com/google/go-containerregistry", "github.com/klauspost/compress", "golang.org/x"}},
	{name: "nydusmount", ours: []string{"rafs", "blob", "nydusimage"}, others: []string{"golang.org/x"}},
	{name: "confined", others: []string{"golang.org/x"}},
	{name: "projects", ours: []string{"confined"}, trivy: true},
	{name: "artifact", ours: []string{"rafs", "blob", "nydusimage", "nydusmount", "projects"}, trivy: true},
	{name: "consistency", ours: []string{"rafs", "blob", "nydusimage", "nydusmount"}},
	{name: "inspect", ours: []string{"rafs", "blob", "nydusimage", "nydusmount"}},
	{name: "", ours: []string{"rafs", "blob", "nydusimage", "nydusmount", "artifact", "consistency", "inspect", "ocicrypt", "confined", "projects"}, trivy: true},
}

// TestImportsPointOneWay fails where a package imports what it must not.
func TestImportsPointOneWay(t *testing.T) {
	for _, line := range goList(t, `{{.ImportPath}} {{join .Imports " "}}`, "./...") {
		fields := strings.Fields(line)
		name := strings.TrimPrefix(strings.TrimPrefix(fields[0], modulePath), "/")
		if strings.HasPrefix(name, "internal/") {
			continue // for tests only: no room may import it
		}
		i := slices.IndexFunc(rooms, func(r room) bool { return r.name == name })
		if i < 0 {
			t.Errorf("package %s is not in the table: add it here and in docs/architecture.md", name)
			continue
		}
		for _, path := range fields[1:] {
			if !rooms[i].allows(path) {
				t.Errorf("package %q must not import %s", name, path)
			}
		}
	}
	for _, r := range rooms {
		if _, err := os.Stat(r.name); r.trivy || err != nil {
			continue
		}
		for _, path := range goList(t, "{{.ImportPath}}", "-deps", "./"+r.name) {
			if strings.HasPrefix(path, "github.com/aquasecurity/") {
				t.Errorf("package %s imports %s, be it through another", r.name, path)
			}
		}
	}
}

func (r room) allows(path string) bool {
	if path == modulePath || strings.HasPrefix(path, modulePath+"/") {
		return slices.Contains(r.ours, strings.TrimPrefix(path, modulePath+"/"))
	}
	standard := !strings.Contains(strings.Split(path, "/")[0], ".")
	return standard || r.others == nil || slices.ContainsFunc(r.others, func(other string) bool {
		return path == other || strings.HasPrefix(path, other+"/")
	})
}

func TestRoomsAllow(t *testing.T) {
	for _, test := range []struct {
		room string
		path string
		want bool
	}{
		{"rafs", "io/fs", true},
		{"rafs", "golang.org/x/sys/unix", false},
		{"rafs", modulePath + "/blob", false},
		{"blob", modulePath + "/rafs", true},
		{"blob", "lukechampine.com/blake3", true},
		{"blob", "github.com/aquasecurity/trivy/pkg/log", false},
		{"nydusimage", modulePath + "/nydusmount", false},
		{"nydusimage", modulePath + "/ocicrypt", true},
		{"artifact", "github.com/aquasecurity/trivy/pkg/log", true},
		{"artifact", modulePath + "/internal/testimage", false},
		{"artifact", modulePath, false},
		{"confined", modulePath + "/rafs", false},
	} {
		i := slices.IndexFunc(rooms, func(r room) bool { return r.name == test.room })
		require.Equal(t, test.want, rooms[i].allows(test.path), "%s imports %s", test.room, test.path)
	}
}

// TestNothingOutside: the project builds from its own folder and its pinned
// modules alone.
func TestNothingOutside(t *testing.T) {
	data, err := os.ReadFile("go.mod")
	require.NoError(t, err)
	mod, err := modfile.Parse("go.mod", data, nil)
	require.NoError(t, err)
	require.Empty(t, mod.Replace, "replace directives in go.mod")
	require.Empty(t, mod.Tool, "tools in go.mod")
	require.NoFileExists(t, "go.work")

	outside := ".." + "/shared"
	err = filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if slices.Contains([]string{".git", "bin", "dist", "testdata"}, d.Name()) {
				return fs.SkipDir
			}
			return nil
		}
		text, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(text), outside) {
			t.Errorf("%s refers to %s", path, outside)
		}
		return err
	})
	require.NoError(t, err)
}

func goList(t *testing.T, format string, args ...string) []string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-f", format}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	require.NoError(t, err, "go list %v", args)
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}
