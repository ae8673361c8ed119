package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
)

// shownRegistry stands in README.md for the registry of the test; it is as long
// as that, so that tables keep their width.
const shownRegistry = "localhost:50000"

// TestReadme runs the commands that README.md and docs/check.md show and
// compares their outputs with what stands there; `make readme` writes it.
func TestReadme(t *testing.T) {
	registry := testregistry.Start(t)
	testimage.Push(t, registry.Host()+"/demo:nydus", demoImage(t, "v6"))
	testimage.Push(t, registry.Host()+"/demo:oci", demoImage(t, "oci"))
	testimage.Push(t, registry.Host()+"/demo:rebuilt", rebuilt(t, demoImage(t, "oci")))
	folder := t.TempDir()
	require.NoError(t, alter(demoLayout, "v6", testimage.SecretPath, filepath.Join(folder, "altered")))

	shell := func(args ...string) string {
		var out, errs bytes.Buffer
		cmd := exec.Command("trivy-nydus", args...)
		cmd.Dir, cmd.Stdout, cmd.Stderr = folder, &out, &errs
		cmd.Env = append(os.Environ(), offline(fixtureCache(t))...)
		code := exitCode(cmd.Run())
		text := "$ trivy nydus " + strings.Join(args, " ") + "\n" + out.String() + ourLines(errs.String())
		if code != "0" {
			text += "$ echo $?\n" + code + "\n"
		}
		return strings.ReplaceAll(text, registry.Host(), shownRegistry)
	}
	help := output(t, exec.Command("trivy-nydus", "scan", "--help"))
	_, flags, _ := strings.Cut(help, "\nNydus Flags\n")
	flags, _, _ = strings.Cut(flags, "\n\n")
	different := shell("check", registry.Host()+"/demo:rebuilt", registry.Host()+"/demo:nydus")
	compareBlocks(t, "README.md", map[string]string{
		"scan":    shell("--scanners", "vuln,secret", "--table-mode", "summary", registry.Host()+"/demo:nydus"),
		"altered": shell("--scanners", "vuln,secret", "./altered:v6"),
		"flags":   flags + "\n",
		"check":   different,
		"inspect": shell("inspect", registry.Host()+"/demo:nydus", "layers", "3"),
	})
	compareBlocks(t, "docs/check.md", map[string]string{
		"check-equal":     shell("check", registry.Host()+"/demo:oci", registry.Host()+"/demo:nydus"),
		"check-different": different,
	})
}

// rebuilt is the image after somebody has built it anew, with another mode of a
// file and another environment.
func rebuilt(t *testing.T, img v1.Image) v1.Image {
	t.Helper()
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	require.NoError(t, w.WriteHeader(&tar.Header{Name: "etc/host.conf", Mode: 0o600, Size: 9, ModTime: testimage.DefaultTime}))
	_, err := w.Write([]byte("multi on\n"))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	img, err = mutate.AppendLayers(img, static.NewLayer(archive.Bytes(), types.OCIUncompressedLayer))
	require.NoError(t, err)
	config, err := img.ConfigFile()
	require.NoError(t, err)
	config = config.DeepCopy()
	config.Config.Env[1] = "LANG=en_US.UTF-8"
	config.History = config.History[:len(config.History)-1] // of the layer
	img, err = mutate.ConfigFile(img, config)
	require.NoError(t, err)
	return img
}

// compareBlocks compares blocks of a document with what they should be, or writes
// them there.
func compareBlocks(t *testing.T, file string, blocks map[string]string) {
	t.Helper()
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	document := string(data)
	for name, text := range blocks {
		text = trimLines(text)
		block := regexp.MustCompile(`(?s)<!-- output: ` + name + ` -->\n+` + "```[a-z]*\n(.*?)```\n")
		found := block.FindAllStringSubmatchIndex(document, -1)
		require.Len(t, found, 1, "blocks %q in %s", name, file)
		from, to := found[0][2], found[0][3]
		if *update {
			document = document[:from] + text + document[to:]
			continue
		}
		require.Equal(t, withoutTimes(document[from:to]), withoutTimes(text), "%s is out of date: make readme", file)
	}
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(document), 0o644))
	}
}

// ourLines leaves out Trivy's log.
func ourLines(stderr string) string {
	var out strings.Builder
	for line := range strings.Lines(stderr) {
		for _, prefix := range []string{"nydus: ", "error: ", "hint: "} {
			if strings.HasPrefix(line, prefix) {
				out.WriteString(line)
			}
		}
	}
	return out.String()
}

// trimLines takes away the blank lines around a report and at line ends.
func trimLines(text string) string {
	text = regexp.MustCompile(`[ \t]+\n`).ReplaceAllString(text, "\n")
	return regexp.MustCompile(`\n{3,}`).ReplaceAllString(text, "\n\n")
}

// withoutTimes leaves out what differs between runs: times, and what a scan fetched
// along, which depends on what came first.
func withoutTimes(text string) string {
	text = regexp.MustCompile(`nydus: read \S+ of (\S+) \(\S+ %, `).ReplaceAllString(text, "nydus: read N of $1 (N %, ")
	return regexp.MustCompile(`\d+\.\d s\b`).ReplaceAllString(text, "N s")
}

// TestEvidenceIsDocumented: docs/evidence.md names every field.
func TestEvidenceIsDocumented(t *testing.T) {
	file := filepath.Join(t.TempDir(), "evidence.json")
	output(t, command(t, fixtureCache(t), "--quiet", "--scanners", "vuln,secret", "--evidence", file, demoLayout+":v6"))
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	var evidence map[string]any
	require.NoError(t, json.Unmarshal(data, &evidence))
	document, err := os.ReadFile("docs/evidence.md")
	require.NoError(t, err)

	var check func(path string, value any)
	check = func(path string, value any) {
		switch value := value.(type) {
		case map[string]any:
			for name, below := range value {
				full := strings.TrimPrefix(path+"."+name, ".")
				// The names within a claim are the image's own annotations.
				if path == "image.claimedSource" {
					continue
				}
				require.True(t, bytes.Contains(document, []byte("`"+full+"`")), "docs/evidence.md does not explain %s", full)
				check(full, below)
			}
		case []any:
			for _, below := range value {
				check(path+"[]", below)
			}
		}
	}
	check("", evidence)
}
