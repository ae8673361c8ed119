package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
)

// craftedLayout writes a crafted image into an OCI layout and returns its path.
func craftedLayout(t *testing.T, c testimage.Crafted) string {
	t.Helper()
	dir := t.TempDir()
	testimage.WriteLayout(t, dir, map[string]any{"crafted": testimage.Craft(t, c)})
	return dir
}

// What one run on a crafted image may take. Most of the memory is Trivy's: a scan of
// an empty image takes some 250 MB. The time is for a busy machine.
const (
	craftedMemory = 1 << 30
	craftedTime   = 20 * time.Second
)

// bounded runs a command that must keep the bounds.
func bounded(t *testing.T, args ...string) result {
	t.Helper()
	return within(t, craftedMemory, craftedTime, args...)
}

// within runs a command that must keep bounds of memory, in bytes, and time.
func within(t *testing.T, memoryBound int64, timeBound time.Duration, args ...string) result {
	t.Helper()
	p := start(t, "trivy-nydus", args...)
	started := time.Now()
	timer := time.AfterFunc(3*timeBound, func() { _ = p.Process.Kill() })
	defer timer.Stop()
	peak := watchMemory(p.Process.Pid)
	r := p.wait(t)
	memory := peak()
	t.Logf("%s: exit code %d, %.1f s, %d MB", args[0], r.code, time.Since(started).Seconds(), memory>>20)
	assert.Less(t, time.Since(started), timeBound, "time of %v", args)
	assert.Less(t, memory, memoryBound, "memory of %v", args)
	assert.NotContains(t, r.stderr, "panic")
	assert.NotContains(t, r.stderr, "goroutine ")
	return r
}

// watchMemory looks how much memory a process has taken at most, in bytes, until it
// ends. (What wait returns counts that of the test itself, from which it was forked.)
func watchMemory(pid int) (peak func() int64) {
	most := make(chan int64)
	go func() {
		var kilobytes int64
		for {
			status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			_, after, ok := strings.Cut(string(status), "VmHWM:")
			if err != nil || !ok { // it has ended
				most <- kilobytes << 10
				return
			}
			var now int64
			if _, err := fmt.Sscan(after, &now); err == nil {
				kilobytes = max(kilobytes, now)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	return func() int64 { return <-most }
}

// scanArguments scan into a file.
func scanArguments(t *testing.T, target string, more ...string) (args []string, output string) {
	t.Helper()
	output = filepath.Join(t.TempDir(), "report.json")
	args = slices.Concat([]string{"scan"}, offline, []string{"--cache-dir", cacheDir(t), "--scanners", "vuln,secret", "--list-all-pkgs", "--quiet",
		"--format", "json", "--output", output}, more, []string{target})
	return args, output
}

// scanCrafted scans what must give a report.
func scanCrafted(t *testing.T, target string, more ...string) map[string]any {
	t.Helper()
	args, output := scanArguments(t, target, more...)
	r := bounded(t, args...)
	require.Zero(t, r.code, r.stderr)
	return decode(t, output)
}

// refusedCrafted runs the command, which must end with exit code 2, one line that
// holds the words, and nothing else.
func refusedCrafted(t *testing.T, words []string, args ...string) result {
	t.Helper()
	r := bounded(t, args...)
	assert.Equal(t, 2, r.code, "exit code of %v; stderr: %s", args, r.stderr)
	for _, word := range words {
		assert.Contains(t, r.stderr+r.stdout, word, "%v", args)
	}
	return r
}

// refusedByAll scans, checks and inspects an image that each must refuse.
func refusedByAll(t *testing.T, target string, words ...string) {
	t.Helper()
	args, output := scanArguments(t, target)
	refusedCrafted(t, words, args...)
	assert.NoFileExists(t, output)
	cache := t.TempDir()
	r := bounded(t, "check", "--cache-dir", cache, target)
	assert.NotZero(t, r.code, "a check finds nothing wrong: %s", r.stdout)
	refusedCrafted(t, words, "inspect", "--cache-dir", cache, target, "stats")
}

// secretPaths lists the paths in which secrets were found.
func secretPaths(report map[string]any) []string {
	var found []string
	results, _ := report["Results"].([]any)
	for _, r := range results {
		r := r.(map[string]any)
		if secrets, _ := r["Secrets"].([]any); len(secrets) > 0 {
			found = append(found, r["Target"].(string))
		}
	}
	return found
}

// packageNames lists the packages of a report.
func packageNames(report map[string]any) []string {
	var found []string
	results, _ := report["Results"].([]any)
	for _, r := range results {
		packages, _ := r.(map[string]any)["Packages"].([]any)
		for _, p := range packages {
			p := p.(map[string]any)
			name, _ := p["Name"].(string)
			version, _ := p["Version"].(string)
			found = append(found, name+" "+version)
		}
	}
	return found
}

func osFamily(report map[string]any) string {
	metadata, _ := report["Metadata"].(map[string]any)
	os, _ := metadata["OS"].(map[string]any)
	family, _ := os["Family"].(string)
	return family
}

// secretText is a file that the secret scanner finds something in.
func secretText(name string) testimage.CraftedFile {
	return testimage.CraftedFile{Path: name, Data: testimage.SecretFile(name).Data}
}

// nodePackage is an installed package of Node.js.
func nodePackage(dir, name, version string) testimage.CraftedFile {
	return testimage.CraftedText(dir+"/node_modules/"+name+"/package.json", `{"name": "`+name+`", "version": "`+version+`"}`)
}

const debianRelease = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\nVERSION_ID=\"12\"\n"

// dpkgStatus is dpkg's database with one package.
func dpkgStatus(name, version string) string {
	return "Package: " + name + "\nStatus: install ok installed\nMaintainer: Debian <x@debian.org>\nArchitecture: amd64\nVersion: " + version + "\n\n"
}

// TestCraftedHonest: an image that is crafted as a converter would make it gives a
// report, so that the others are refused for what is wrong with them.
func TestCraftedHonest(t *testing.T) {
	t.Parallel()
	lock := nodePackage("srv/app", "minimist", "1.2.0")
	gone := secretText("srv/gone.env")
	dir := craftedLayout(t, testimage.Crafted{
		Layers: [][]testimage.CraftedFile{
			{testimage.CraftedText("etc/os-release", debianRelease), testimage.CraftedText("etc/debian_version", "12.1\n"), lock, gone},
			{testimage.CraftedText("srv/.wh.gone.env", ""), testimage.CraftedText("srv/x", "x")},
		},
		Merged: []testimage.CraftedFile{
			testimage.CraftedText("etc/os-release", debianRelease), testimage.CraftedText("etc/debian_version", "12.1\n"), lock,
			testimage.CraftedText("srv/x", "x"),
		},
		Layer: map[string]int{"etc/os-release": 0, "etc/debian_version": 0, lock.Path: 0},
	})
	report := scanCrafted(t, dir)
	assert.Equal(t, "debian", osFamily(report))
	assert.Contains(t, packageNames(report), "minimist 1.2.0")
	assert.Contains(t, secretPaths(report), "/srv/gone.env")
	r := bounded(t, "inspect", "--cache-dir", t.TempDir(), dir, "ls", "/srv")
	assert.Zero(t, r.code, r.stderr)
	assert.Contains(t, r.stdout, "app")
}

// orderIsKnown lets a manifest say that a converter of today made it.
func orderIsKnown(m *v1.Manifest) {
	m.Annotations = map[string]string{"containerd.io/snapshot/nydus-builder-version": "v2.4.4"}
}

// TestCraftedHistory: a history that makes every layer one of a base image, in which
// Trivy looks for no secrets, is not believed.
func TestCraftedHistory(t *testing.T) {
	t.Parallel()
	at := v1.Time{Time: testimage.DefaultTime}
	secret := secretText("srv/app/.env")
	dir := craftedLayout(t, testimage.Crafted{
		Layers: [][]testimage.CraftedFile{{secret}, {testimage.CraftedDir("srv/app")}},
		Merged: []testimage.CraftedFile{secret},
		Layer:  map[string]int{secret.Path: 0},
		History: []v1.History{
			{Created: at, CreatedBy: "ADD file:x in /"}, {Created: at, CreatedBy: `CMD ["sh"]`, EmptyLayer: true},
			{Created: at, CreatedBy: "RUN true"}, {Created: at, CreatedBy: `CMD ["sh"]`, EmptyLayer: true},
		},
		Config: v1.Config{Cmd: []string{"sh"}},
		Edit:   orderIsKnown,
	})
	assert.Equal(t, []string{"/srv/app/.env"}, secretPaths(scanCrafted(t, dir)))
	args, _ := scanArguments(t, dir)
	args = slices.DeleteFunc(args, func(a string) bool { return a == "--quiet" })
	r := run(t, "trivy-nydus", args...)
	assert.Contains(t, r.stderr, "by its history, all files of the image would be those of a base image")
}

// evilNames have what a terminal would obey.
var evilNames = []string{"esc\x1b[31mred\x1b]0;title\x07", "new\nline", "bidi\u202egnp.exe", "latin\xe9", "back\\slash", "del\x7f", "c1\u009b31m"}

// evilLayouts are layouts of images with files of such names, in the second of which
// none can be read.
func evilLayouts(t *testing.T) (sound, damaged string) {
	t.Helper()
	var files, broken []testimage.CraftedFile
	for _, n := range evilNames {
		f := secretText("srv/" + n + ".env")
		files = append(files, f)
		bad := f
		bad.Alter = nil
		chunk := testimage.CraftedChunk{Stored: uint32(len(f.Data)), Size: uint32(len(f.Data))} // its digest is wrong
		bad.Data, bad.Chunks, bad.Size = nil, []testimage.CraftedChunk{chunk}, uint64(len(f.Data))
		broken = append(broken, bad, testimage.CraftedLink("links/"+n, n+"/../../../../etc/passwd"))
	}
	sound = craftedLayout(t, testimage.Crafted{Merged: files})
	return sound, craftedLayout(t, testimage.Crafted{Merged: broken, Raw: make([]byte, 4096)})
}

// TestCraftedNames shows names with what a terminal would obey.
func TestCraftedNames(t *testing.T) {
	t.Parallel()
	dir, damaged := evilLayouts(t)
	cache := t.TempDir()
	args, output := scanArguments(t, dir)
	r := bounded(t, slices.DeleteFunc(append(args, "--debug"), func(a string) bool { return a == "--quiet" })...)
	require.Zero(t, r.code, r.stderr)
	visible(t, "scan --debug", r.stderr)
	assert.Len(t, secretPaths(decode(t, output)), len(evilNames), "each is scanned")

	args, _ = scanArguments(t, damaged)
	r = refusedCrafted(t, []string{`\x1b`}, args...)
	visible(t, "scan", r.stderr)
	for _, target := range []string{dir, damaged} {
		visibleInspect(t, cache, target)
		for _, flags := range [][]string{{"--data", "full"}, {"--format", "json", "--data", "full"}} {
			r = bounded(t, slices.Concat([]string{"check", "--cache-dir", cache}, flags, []string{target})...)
			visible(t, "check", r.stdout)
			visible(t, "check", r.stderr)
		}
	}
}

// visibleInspect asks all that inspect answers.
func visibleInspect(t *testing.T, cache, target string) {
	t.Helper()
	for _, call := range [][]string{
		{"ls", "--recursive", "/"}, {"ls", "-l", "/links"}, {"tree", "/"}, {"stats"}, {"blobs"}, {"layers"},
		{"find", "*"}, {"icheck", "2"}, {"prefetch"}, {"manifest"}, {"toc", "1"}, {"stat", "/srv/new\\x0aline.env"}, {"stat", "/nothing\x1b[31m"},
		{"cat", "/srv/esc\\x1b[31mred\\x1b]0;title\\x07.env"}, {"layer", "/srv"},
	} {
		for _, format := range []string{"table", "json"} {
			r := bounded(t, slices.Concat([]string{"inspect", "--format", format, "--cache-dir", cache, target}, call)...)
			visible(t, "inspect "+call[0], r.stdout)
			visible(t, "inspect "+call[0], r.stderr)
		}
	}
}

// visible fails where text holds what a terminal would obey.
func visible(t *testing.T, what, text string) {
	t.Helper()
	for _, bad := range []string{"\x1b[31mred", "\x1b]", "\x07", "\u202e", "\xe9.", "\x7f", "\u009b"} {
		if at := strings.Index(text, bad); at >= 0 {
			assert.Failf(t, "a terminal would obey", "%s has %q: %q", what, bad, text[max(at-60, 0):min(at+60, len(text))])
		}
	}
	assert.NotContains(t, text, "new\nline", what)
}
