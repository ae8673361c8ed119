package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
)

// runInspect runs the inspect command with a cache of its own.
func runInspect(t *testing.T, args ...string) result {
	t.Helper()
	return run(t, "trivy-nydus", append([]string{"inspect", "--cache-dir", t.TempDir()}, args...)...)
}

// TestInspect asks the same of an image in a registry, in a folder, in an
// archive, in an index, and of its bootstrap.
func TestInspect(t *testing.T) {
	registry := testregistry.Start(t)
	repository := publish(t, registry, testimage.Tiny(t))
	oci := testimage.BuildOCI(t, testimage.Tiny(t))
	for _, version := range []string{"5", "6"} {
		o := testimage.ConvertOptions{FSVersion: version, Compressor: map[string]string{"5": "lz4_block", "6": "zstd"}[version]}
		converted := testimage.Convert(t, oci, o)
		layout := filepath.Join(t.TempDir(), "layout")
		testimage.WriteLayout(t, layout, map[string]any{"nydus": converted})
		testimage.Push(t, repository+":both"+version, testimage.Index(t, testimage.ByArtifactType, testimage.Pair{OCI: oci, Nydus: converted}))
		targets := []string{repository + ":v" + version, layout, tarOf(t, layout), repository + ":both" + version}
		for _, command := range [][]string{{"stats"}, {"ls", "/etc"}, {"find"}, {"blobs"}, {"prefetch"}, {"stat", "/" + testimage.SecretPath}, {"layers", "3"}, {"cat", "/" + testimage.SecretPath}} {
			var first result
			for n, target := range targets {
				r := runInspect(t, append([]string{"--quiet", target}, command...)...)
				require.Zero(t, r.code, "%q of %s: %s", command, target, r.stderr)
				require.NotEmpty(t, r.stdout)
				if n == 0 {
					first = r
				}
				assert.Equal(t, first.stdout, r.stdout, "%q of %s", command, target)
			}
			bare := runInspect(t, append([]string{converted.BootstrapPath}, command...)...)
			switch command[0] {
			case "layers", "cat":
				assert.Equal(t, 2, bare.code)
				assert.Contains(t, bare.stderr, "error: a bootstrap alone has no manifest")
			case "stats", "ls", "find", "prefetch":
				assert.Equal(t, first.stdout, bare.stdout, "%q", command)
			default: // without the layers
				assert.Zero(t, bare.code)
			}
		}
	}
}

// tarOf packs a layout.
func tarOf(t *testing.T, dir string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "layout.tar")
	output, err := exec.Command("tar", "-c", "-f", file, "-C", dir, ".").CombinedOutput()
	require.NoError(t, err, "%s", output)
	return file
}

// TestInspectFetchesLittle: a registry is asked for manifest, config and
// bootstrap, and for a file's content for the tail of one blob and its chunks.
func TestInspectFetchesLittle(t *testing.T) {
	registry := testregistry.Start(t)
	repository := publish(t, registry, testimage.DebianApp(t))
	proxy := testregistry.CountingProxy(t, registry.URL())
	target := strings.Replace(repository, registry.Host(), proxy.Host(), 1) + ":v6"
	blobs := func(args ...string) (requests int) {
		proxy.Reset()
		r := runInspect(t, append([]string{target}, args...)...)
		require.Zero(t, r.code, r.stderr)
		for _, request := range proxy.Log() {
			if request.IsBlob() {
				requests++
			}
		}
		return requests
	}
	for _, command := range []string{"stats", "ls", "find", "blobs", "layers", "prefetch", "manifest", "config", "pwd", "help"} {
		assert.Equal(t, 2, blobs(command), "%s: config and bootstrap", command)
	}
	assert.Equal(t, 4, blobs("cat", "/"+testimage.SecretPath), "and a tail and a chunk")
}

// TestInspectSession keeps one session over standard input.
func TestInspectSession(t *testing.T) {
	registry := testregistry.Start(t)
	repository := publish(t, registry, testimage.Odd(t))
	p := prepare(t, "trivy-nydus", "inspect", "--quiet", "--format", "json", repository+":v6")
	p.Stdin = strings.NewReader("stat /dir/file\nls /nowhere\nstats\n")
	require.NoError(t, p.Start())
	r := p.wait(t)
	assert.Equal(t, 2, r.code)
	assert.Equal(t, "error: 1 of 3 commands failed\nhint: the documents with an error say why\n", r.stderr)
	documents := strings.Split(strings.TrimSpace(r.stdout), "\n")
	require.Len(t, documents, 3)
	for n, field := range []string{"chunks", "error", "inodes_count"} {
		var document map[string]any
		require.NoError(t, json.Unmarshal([]byte(documents[n]), &document))
		assert.Contains(t, document, field)
	}
}

// TestInspectUnreachable: no answer is no good answer.
func TestInspectUnreachable(t *testing.T) {
	registry := testregistry.Start(t)
	for _, args := range [][]string{
		{registry.Host() + "/test/none:v6", "ls"}, {"localhost:1/test/none", "ls"}, {"./no-such-folder", "ls"}, {"", "ls"}, {"UPPER", "ls"},
	} {
		r := runInspect(t, args...)
		assert.Equal(t, 2, r.code, "%q", args)
		assert.Empty(t, r.stdout)
		assert.Contains(t, r.stderr, "error: ", "%q", args)
		assert.Contains(t, r.stderr, "hint: ", "%q", args)
	}
	file := filepath.Join(t.TempDir(), "image.boot")
	require.NoError(t, os.WriteFile(file, append([]byte("SFAR\x00\x05\x00\x00"), bytes.Repeat([]byte{0xff}, 9000)...), 0o644))
	r := runInspect(t, file, "stats")
	assert.Equal(t, 2, r.code)
	assert.Contains(t, r.stderr, "corrupt RAFS metadata")
}
