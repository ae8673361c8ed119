package inspect_test

import (
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/inspect"
)

var update = flag.Bool("update", false, "write the outputs into docs/inspect.md")

const (
	guide  = "../docs/inspect.md"
	prompt = "$ trivy nydus inspect ./testdata/demo:v6 "
)

var outputs = regexp.MustCompile("(?s)<!-- output -->\n\n```console\n" + regexp.QuoteMeta(prompt) + "([^\n]*)\n(.*?)```\n")

// TestDocumentedOutputs runs the commands that docs/inspect.md shows.
func TestDocumentedOutputs(t *testing.T) {
	data, err := os.ReadFile(guide)
	require.NoError(t, err)
	layout, err := filepath.Abs("../testdata/demo")
	require.NoError(t, err)
	i := openLayout(t, layout+":v6")
	t.Chdir(t.TempDir()) // export writes a file
	shown := make(map[string]bool)
	written := outputs.ReplaceAllStringFunc(string(data), func(block string) string {
		m := outputs.FindStringSubmatch(block)
		words, err := inspect.Words(m[1])
		require.NoError(t, err)
		shown[words[0]] = true
		output := text(t, i.Session, words...)
		if output != "" && !strings.HasSuffix(output, "\n") {
			output += "\n"
		}
		output = regexp.MustCompile(` +\n`).ReplaceAllString(output, "\n")
		if !*update {
			assert.Equal(t, m[2], output, "docs/inspect.md is out of date: go test ./inspect -run TestDocumentedOutputs -update")
		}
		if words[0] == "cd" {
			text(t, i.Session, "cd", "/srv/app")
		}
		return "<!-- output -->\n\n```console\n" + prompt + m[1] + "\n" + output + "```\n"
	})
	for _, c := range inspect.Commands {
		switch c.Name {
		case "exit", "manifest", "config": // there is nothing to show, or much
		default:
			assert.True(t, shown[c.Name], "docs/inspect.md shows no output of %s", c.Name)
		}
	}
	if *update {
		require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(layout), "..", "docs", "inspect.md"), []byte(written), 0o644))
	}
}

// TestDocumentedFields: docs/inspect.md explains every field, in the command's
// section.
func TestDocumentedFields(t *testing.T) {
	data, err := os.ReadFile(guide)
	require.NoError(t, err)
	sections := make(map[string]string)
	for _, s := range strings.Split(string(data), "\n## ")[1:] {
		heading, body, _ := strings.Cut(s, "\n")
		sections[heading] = body
	}
	for heading, answer := range map[string]any{
		"stats": inspect.Stats{}, "ls": inspect.Node{}, "stat": inspect.Stat{}, "cat": inspect.Content{}, "blobs": inspect.Blob{},
		"prefetch": inspect.Prefetched{}, "chunk": inspect.ChunkUse{}, "icheck": inspect.InodeCheck{}, "toc": inspect.Part{},
		"export": inspect.Export{}, "cd and pwd": inspect.Directory{}, "help and exit": inspect.Command{},
	} {
		assertFields(t, heading, sections[heading]+sections["ls"], sections["JSON"], reflect.TypeOf(answer))
	}
	assertFields(t, "layers", sections["layers"], sections["JSON"], reflect.TypeOf(inspect.Layer{}))
	assertFields(t, "layers", sections["layers"], sections["JSON"], reflect.TypeOf(inspect.Change{}))
	for i := range inspect.Commands {
		name := inspect.Commands[i].Name
		found := false
		for heading := range sections {
			found = found || heading == name || strings.HasPrefix(heading, name+" ") || strings.HasSuffix(heading, " "+name)
		}
		assert.True(t, found, "docs/inspect.md has no section on %s", name)
		for _, flag := range regexp.MustCompile(`--[a-z]+`).FindAllString(inspect.Commands[i].Arguments, -1) {
			assert.Contains(t, string(data), "`"+flag, "of %s", name)
		}
	}
}

func assertFields(t *testing.T, heading, section, general string, answer reflect.Type) {
	t.Helper()
	for n := range answer.NumField() {
		field := answer.Field(n)
		if !field.IsExported() {
			continue
		}
		inner := field.Type
		for inner.Kind() == reflect.Pointer || inner.Kind() == reflect.Slice {
			inner = inner.Elem()
		}
		if inner.Kind() == reflect.Struct {
			assertFields(t, heading, section, general, inner)
		}
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == "" {
			continue
		}
		if strings.HasSuffix(name, "_base64") && name != "data_base64" {
			assert.Contains(t, general, "`"+name+"`")
			continue
		}
		assert.Contains(t, section, "`"+name+"`", "field of %s", heading)
	}
}
