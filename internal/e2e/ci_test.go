package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
)

// A block is an example of docs/ci.md with the exit code that it announces.
type block struct {
	language, text string
	exit           int
	heading        string
}

func (b block) title() string { return strings.TrimPrefix(b.heading, "## ") }

var blocks = regexp.MustCompile("(?s)<!-- (run: exit (\\d)|serve) -->\n```(\\w+)\n(.*?)```")

// readBlocks returns the examples to be run, and the one that starts a server.
func readBlocks(t *testing.T) (run []block, serve string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/ci.md")
	require.NoError(t, err)
	for _, at := range blocks.FindAllStringSubmatchIndex(string(text), -1) {
		m := make([]string, len(at)/2)
		for i := range m {
			if at[2*i] >= 0 {
				m[i] = string(text[at[2*i]:at[2*i+1]])
			}
		}
		before := string(text[:at[0]])
		heading, _, _ := strings.Cut(before[strings.LastIndex(before, "\n## ")+1:], "\n")
		if m[1] == "serve" {
			serve = m[4]
			continue
		}
		run = append(run, block{language: m[3], text: m[4], exit: int(m[2][0] - '0'), heading: heading})
	}
	require.Len(t, run, 6, "examples in docs/ci.md")
	require.NotEmpty(t, serve)
	require.Equal(t, len(run)+1, strings.Count(string(text), "```")/2, "every example is run")
	return run, serve
}

// script returns the commands of an example, and what a YAML one sets for them.
func (b block) script(t *testing.T) (commands string, env []string) {
	t.Helper()
	if b.language == "sh" {
		return b.text, nil
	}
	var file map[string]any
	require.NoError(t, yaml.Unmarshal([]byte(b.text), &file))
	var lines []string
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, x := range v {
				walk(x)
			}
		case map[string]any:
			for key, value := range v {
				switch key {
				case "run":
					lines = append(lines, value.(string))
				case "script":
					for _, line := range value.([]any) {
						lines = append(lines, line.(string))
					}
				case "env", "variables":
					for name, value := range value.(map[string]any) {
						if !strings.Contains(fmt.Sprint(value), "${{") {
							env = append(env, fmt.Sprintf("%s=%v", name, value))
						}
					}
				default:
					walk(value)
				}
			}
		}
	}
	walk(file)
	require.NotEmpty(t, lines)
	return strings.Join(lines, "\n"), env
}

// TestExamplesForPipelines runs every example of docs/ci.md, each in a folder
// and a home of its own.
func TestExamplesForPipelines(t *testing.T) {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		t.Skip("the examples name the archive for linux/amd64")
	}
	run, serve := readBlocks(t)
	registry := testregistry.Start(t)
	publish(t, registry, testimage.Tiny(t))
	port := freePort(t)
	trivy, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/aquasecurity/trivy").Output()
	require.NoError(t, err)
	templates := filepath.Join(strings.TrimSpace(string(trivy)), "contrib")
	env := []string{
		"IMAGE=" + registry.Host() + "/test/tiny:v6", "REGISTRY=" + registry.Host(), "REPOSITORY=test/tiny", "TOKEN=let-me-in",
		"TRIVY_SKIP_DB_UPDATE=true", "TRIVY_SKIP_JAVA_DB_UPDATE=true", "TRIVY_OFFLINE_SCAN=true", "TRIVY_SKIP_CHECK_UPDATE=true",
		"TRIVY_SKIP_VERSION_CHECK=true", "TRIVY_DISABLE_TELEMETRY=true",
	}
	server := shell(t, strings.Replace("exec "+serve, "4954", port, 1), append(env, "TRIVY_CACHE_DIR="+cacheDir(t)))
	require.NoError(t, server.Start())
	t.Cleanup(func() { _ = server.Process.Kill(); _ = server.Wait() })
	waitFor(t, "127.0.0.1:"+port)
	for _, b := range run {
		commands, own := b.script(t)
		t.Run(b.title(), func(t *testing.T) {
			cache := cacheDir(t)
			all := append(append([]string{"TRIVY_CACHE_DIR=" + cache}, env...), own...)
			commands = strings.NewReplacer("4954", port, "@/contrib/", "@"+templates+"/").Replace(commands)
			cmd := shell(t, commands, all)
			for _, e := range own {
				// A folder of the job's, as its cache step would have filled it.
				if name, ok := strings.CutPrefix(e, "TRIVY_CACHE_DIR="); ok {
					require.NoError(t, os.Rename(cache, filepath.Join(cmd.Dir, name)))
				}
			}
			output, _ := cmd.CombinedOutput()
			assert.Equal(t, b.exit, cmd.ProcessState.ExitCode(), "%s\n%s", commands, output)
		})
	}
}

// shell prepares commands in a folder that holds what the examples say: the
// archive. The plugin is installed in a home of its own.
func shell(t *testing.T, commands string, env []string) *exec.Cmd {
	t.Helper()
	dir, home := t.TempDir(), t.TempDir()
	for _, name := range []string{"trivy-nydus_0.1.0_linux_amd64.tar.gz", "trivy-nydus_0.1.0_linux_amd64.tar.gz.sha256"} {
		data, err := os.ReadFile(filepath.Join("..", "..", "dist", name))
		require.NoError(t, err, "run: make archive")
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), data, 0o644))
	}
	path := filepath.Dir(built(t, "trivy")) + ":" + os.Getenv("PATH")
	env = append(append(os.Environ(), "PATH="+path, "HOME="+home, "XDG_DATA_HOME="+home, "DOCKER_CONFIG="+home), env...)
	if !strings.Contains(commands, "plugin install") && strings.Contains(commands, "trivy nydus") {
		install := exec.Command(built(t, "trivy"), "--quiet", "plugin", "install", "./trivy-nydus_0.1.0_linux_amd64.tar.gz")
		install.Dir, install.Env = dir, env
		output, err := install.CombinedOutput()
		require.NoError(t, err, "%s", output)
	}
	cmd := exec.Command("bash", "-euo", "pipefail", "-c", commands)
	cmd.Dir, cmd.Env = dir, env
	return cmd
}
