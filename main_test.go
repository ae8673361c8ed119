package main

import (
	"context"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/fixturedb"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
)

// demoLayout is the OCI layout with the image of `make demo`, tags oci, v5 and
// v6. `make testdata` writes it.
const demoLayout = "./testdata/demo"

var update = flag.Bool("update", false, "write the outputs into README.md instead of comparing them")

// TestMain makes this binary also the command trivy-nydus, first on the PATH of
// the tests.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"trivy-nydus": main})
}

// TestScripts runs the command line's scripts. Each has a cache of its own with
// the fixture databases, and the offline flags set.
func TestScripts(t *testing.T) {
	demo, err := filepath.Abs(demoLayout)
	require.NoError(t, err)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/scripts",
		Setup: func(env *testscript.Env) error {
			env.Vars = append(env.Vars, "DEMO="+demo)
			env.Vars = append(env.Vars, offline(filepath.Join(env.WorkDir, "cache"))...)
			return makeFixtures(filepath.Join(env.WorkDir, "cache"))
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":  scriptExits,
			"refuse": scriptRefuse,
			"alter":  scriptAlter,
		},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

// scriptExits is "exits CODE COMMAND...": runs a command that must exit so.
func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	if code := exitCode(ts.Exec(args[1], args[2:]...)); code != args[0] {
		ts.Fatalf("expected exit code %s, came %s", args[0], code)
	}
}

// scriptRefuse is "refuse PATTERN COMMAND...": runs a command that must exit with
// 2, print nothing, and end with one line of error, which the pattern matches,
// and one hint.
func scriptRefuse(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: refuse PATTERN COMMAND...")
	}
	if code := exitCode(ts.Exec(args[1], args[2:]...)); code != "2" {
		ts.Fatalf("expected exit code 2, came %s", code)
	}
	if out := ts.ReadFile("stdout"); out != "" {
		ts.Fatalf("expected nothing on stdout, came %q", out)
	}
	lines := strings.Split(strings.TrimSuffix(ts.ReadFile("stderr"), "\n"), "\n")
	ours := 0
	for _, line := range lines {
		if strings.HasPrefix(line, "error: ") || strings.HasPrefix(line, "hint: ") {
			ours++
		}
	}
	if n := len(lines); ours != 2 || !strings.HasPrefix(lines[n-2], "error: ") || !strings.HasPrefix(lines[n-1], "hint: ") {
		ts.Fatalf("expected a line of error and a hint at the end, came:\n%s", strings.Join(lines, "\n"))
	}
	if line := lines[len(lines)-2]; !regexp.MustCompile(args[0]).MatchString(line) {
		ts.Fatalf("expected an error that matches %q, came %q", args[0], line)
	}
}

// scriptAlter is "alter LAYOUT TAG PATH COPY": see alter.
func scriptAlter(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 {
		ts.Fatalf("usage: alter LAYOUT TAG PATH COPY")
	}
	ts.Check(alter(args[0], args[1], args[2], ts.MkAbs(args[3])))
}

func exitCode(err error) string {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return "0"
	case errors.As(err, &exit):
		return strings.TrimPrefix(exit.String(), "exit status ")
	}
	return err.Error()
}

// makeFixtures makes the databases of testdata/db in a cache folder.
func makeFixtures(cache string) error {
	files, err := filepath.Glob("testdata/db/*.yaml")
	if err != nil {
		return err
	}
	return fixturedb.Make(cache, files)
}

// offline is the environment in which nothing is looked up outside.
func offline(cache string) []string {
	return []string{
		"TRIVY_CACHE_DIR=" + cache, "TRIVY_SKIP_DB_UPDATE=true", "TRIVY_SKIP_JAVA_DB_UPDATE=true",
		"TRIVY_OFFLINE_SCAN=true", "TRIVY_SKIP_CHECK_UPDATE=true", "TRIVY_SKIP_VERSION_CHECK=true",
		"TRIVY_DISABLE_TELEMETRY=true",
	}
}

// alter copies the layout and flips, in the copy, one byte in the middle of the
// first chunk of the file at path in the image of this tag.
func alter(root, tag, path, dir string) error {
	img, err := nydusimage.Open(context.Background(), root+":"+tag, nydusimage.Options{})
	if err != nil {
		return err
	}
	defer img.Close()
	bootstrap, err := img.Bootstrap(context.Background())
	if err != nil {
		return err
	}
	file, err := bootstrap.Tree.Lookup(path)
	if err != nil {
		return err
	}
	chunks, err := file.Chunks()
	if err != nil {
		return err
	}
	chunk := chunks[0]
	if err := os.CopyFS(dir, os.DirFS(root)); err != nil {
		return err
	}
	name := filepath.Join(dir, "blobs/sha256", bootstrap.Tree.Blobs()[chunk.Blob].ID)
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	data[chunk.CompressedOffset+uint64(chunk.CompressedSize/2)] ^= 1
	return os.WriteFile(name, data, 0o644)
}

// demoImage is an image of the demo's layout.
func demoImage(t *testing.T, tag string) v1.Image {
	t.Helper()
	index, err := layout.ImageIndexFromPath(demoLayout)
	require.NoError(t, err)
	manifest, err := index.IndexManifest()
	require.NoError(t, err)
	for _, d := range manifest.Manifests {
		if d.Annotations["org.opencontainers.image.ref.name"] == tag {
			img, err := index.Image(d.Digest)
			require.NoError(t, err)
			return img
		}
	}
	t.Fatalf("the layout %s has no image %s", demoLayout, tag)
	return nil
}

// TestWriteDemo writes testdata/demo.
func TestWriteDemo(t *testing.T) {
	if os.Getenv("TRIVY_NYDUS_WRITE_TESTDATA") == "" {
		t.Skip("`make testdata` writes testdata/demo")
	}
	oci := testimage.BuildOCI(t, testimage.Tiny(t))
	images := map[string]any{"oci": oci}
	for tag, version := range map[string]string{"v5": "5", "v6": "6"} {
		images[tag] = testimage.Convert(t, oci, testimage.ConvertOptions{FSVersion: version})
	}
	require.NoError(t, os.RemoveAll(demoLayout))
	testimage.WriteLayout(t, demoLayout, images)
}
