package inspect_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/inspect"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
)

// serve runs a session over lines.
func serve(t *testing.T, s *inspect.Session, asJSON bool, lines ...string) (out, errs string, err error) {
	t.Helper()
	var o, e bytes.Buffer
	err = s.Serve(t.Context(), inspect.NewLines(strings.NewReader(strings.Join(lines, "\n"))), inspect.Output{
		Out: &o, Err: &e, JSON: asJSON, Explain: func(err error) string { return "error: " + err.Error() },
	})
	return o.String(), e.String(), err
}

// wrongLines are commands that fail, each with a word of its error.
var wrongLines = map[string]string{
	"frobnicate":                       "no command",
	"ls a b":                           "too many",
	"ls --frob":                        "unknown flag",
	"ls --layer":                       "argument",
	"ls --layer x":                     "invalid",
	"ls --layer -1":                    "count from 1",
	"ls --layer 9":                     "no layer 9",
	"ls /no/such":                      "/no/such",
	"ls 'dir/file/x'":                  "/dir/file/x",
	"ls \\x00":                         "/\x00",
	"ls '":                             "quotation",
	"cd dir/file":                      "not a directory",
	"cd nowhere":                       "/nowhere",
	"stat":                             "missing",
	"stat nowhere":                     "/nowhere",
	"stat dangling/x":                  "/dangling/x",
	"cat":                              "missing",
	"cat dir":                          "is a directory",
	"cat dangling":                     "/dangling",
	"cat dev/null":                     "character device",
	"cat metadata/fifo":                "fifo",
	"cat --range x dir/file":           "no range",
	"find --name '[' /":                "no pattern",
	"find --type x":                    "types are",
	"find --size much":                 "no size",
	"find --size +-1":                  "no size",
	"find --size 9999999999999999999G": "no size",
	"find nowhere":                     "/nowhere",
	"layers x":                         "no number",
	"layers 0":                         "no number",
	"layers 5":                         "no layer 5",
	"layers 1 2":                       "too many",
	"chunk":                            "missing",
	"chunk xyz":                        "no digest",
	"chunk abc":                        "no digest",
	"chunk md5:abcdef":                 "no digest",
	"chunk 0123456789abcdef":           "no file",
	"chunk 0 x":                        "no offset",
	"chunk 0 -- -1":                    "no offset",
	"chunk 0 99999999999999":           "no file",
	"chunk 77 0":                       "no blob",
	"chunk nowhere 0":                  "no blob",
	"icheck":                           "missing",
	"icheck x":                         "no number",
	"icheck 18446744073709551615":      "no path",
	"icheck 99999999999999999999":      "no number",
	"toc 77":                           "no blob",
	"export /":                         "-o FILE",
	"export -o /no/such/folder/x /dir": "/no/such/folder",
	"export -o - /dir":                 "no JSON document",
	"help frobnicate":                  "no command",
	"blobs x":                          "too many",
}

// TestWrongCommands: each mistake gives one error that says what it is, and the
// session goes on.
func TestWrongCommands(t *testing.T) {
	for _, version := range versions {
		i := open(t, testimage.Odd(t), testimage.ConvertOptions{FSVersion: version})
		for line, word := range wrongLines {
			out, _, err := serve(t, i.Session, true, line, "pwd")
			require.ErrorIs(t, err, inspect.ErrFailed, line)
			assert.ErrorContains(t, err, "1 of 2 commands failed")
			documents := strings.Split(strings.TrimSpace(out), "\n")
			require.Len(t, documents, 2, "%s: %s", line, out)
			var failure struct{ Error, Hint string }
			require.NoError(t, json.Unmarshal([]byte(documents[0]), &failure))
			assert.Contains(t, failure.Error, word, line)
			assert.JSONEq(t, `{"path":"/"}`, documents[1])

			if strings.HasPrefix(line, "export -o -") {
				continue // as text it is the archive
			}
			out, errs, err := serve(t, i.Session, false, line, "pwd")
			require.NoError(t, err, "a person's mistakes do not count")
			assert.Equal(t, "/\n", out)
			assert.Contains(t, errs, "error: ")
		}
	}
}

// TestSession: the current directory, links, and what ends a session.
func TestSession(t *testing.T) {
	i := open(t, testimage.Odd(t), testimage.ConvertOptions{})
	out, errs, err := serve(t, i.Session, false,
		"cd dir-to-link", "pwd", "", "  ", "ls file", "cd ..", "pwd", "cd names", `cat new\x0aline`, "cat 'tab\ttab'", "cd", "pwd", "cd ../../..", "pwd", "exit", "pwd")
	require.NoError(t, err)
	assert.Empty(t, errs)
	assert.Equal(t, "/dir\n-rw-r--r-- 1 0:0 8 2024-01-02 03:04:05 file\n/\nname 4\nname 5\n/\n/\n", out)

	out, _, err = serve(t, i.Session, true, "cd dir", "ls", "exit", "ls")
	require.NoError(t, err)
	assert.Equal(t, 2, strings.Count(out, "\n"))

	// A line that is too long, and one without an end.
	_, _, err = serve(t, i.Session, true, "ls "+strings.Repeat("x", 1<<20))
	assert.ErrorContains(t, err, "read a command")
	out, _, err = serve(t, i.Session, true, "pwd")
	require.NoError(t, err)
	assert.JSONEq(t, `{"path":"/dir"}`, out)
}

// TestEndedContext ends long commands.
func TestEndedContext(t *testing.T) {
	i := open(t, testimage.Odd(t), testimage.ConvertOptions{})
	ctx, cancel := context.WithCancelCause(t.Context())
	because := errors.New("because")
	cancel(because)
	for _, words := range [][]string{
		{"find", "/"}, {"stats"}, {"icheck", "36"}, {"chunk", "0", "0"}, {"layers", "2"}, {"stat", "/hard/a"}, {"cat", "/dir/file"}, {"export", "-o", t.TempDir() + "/x.tar", "/"},
	} {
		_, _, err := ask(ctx, i.Session, words...)
		assert.ErrorIs(t, err, because, "%q", words)
	}
	assert.Equal(t, "content\n", text(t, i.Session, "cat", "/dir/file"), "the session goes on")
}

// TestInterruptedWait: a session that waits for a line ends with its context.
func TestInterruptedWait(t *testing.T) {
	i := open(t, testimage.Odd(t), testimage.ConvertOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	reader, writer := io.Pipe()
	defer writer.Close()
	ended := make(chan error)
	go func() { ended <- i.Serve(ctx, inspect.NewLines(reader), inspect.Output{Out: io.Discard, JSON: true}) }()
	_, err := io.WriteString(writer, "pwd\n")
	require.NoError(t, err)
	cancel()
	assert.ErrorIs(t, <-ended, context.Canceled)
}

// TestHostileNames: names that a terminal would obey, and that are not UTF-8.
func TestHostileNames(t *testing.T) {
	names := []string{"\x1b[2J", "\x07bell", "\xff\xfe", "\u202etxt.exe", "\u009b31m", "a\\b", "line\nbreak"}
	layer := testimage.Layer{}
	for _, name := range names {
		layer = append(layer, testimage.Text("d/"+name, name).WithXattr("user.x", strings.ReplaceAll(name, "\n", "")))
	}
	layer = append(layer, testimage.Sym("d/link", "\x1b]0;title\x07\xff"))
	spec := testimage.Spec{Name: "hostile", Layers: []testimage.Layer{layer.WithParents()}}
	for _, version := range versions {
		i := open(t, spec, testimage.ConvertOptions{FSVersion: version})
		nodes := document[[]inspect.Node](t, i.Session, "find", "/d", "--type", "f")
		require.Len(t, nodes, len(names))
		for _, n := range nodes {
			assert.Contains(t, names, strings.TrimPrefix(fullPath(n), "/d/"))
			shown := text(t, i.Session, "stat", fullPath(n))
			assertPrintable(t, shown)
			assert.Equal(t, strings.TrimPrefix(fullPath(n), "/d/"), text(t, i.Session, "cat", fullPath(n)))
			out, _, err := serve(t, i.Session, false, "cat "+inspect.Escape(fullPath(n)))
			require.NoError(t, err)
			assert.Equal(t, strings.TrimPrefix(fullPath(n), "/d/"), out)
		}
		for _, words := range [][]string{{"ls", "/d"}, {"find", "/"}, {"layers", "1"}, {"icheck", text10(nodes[0].Inode)}, {"chunk", "0", "0"}, {"stat", "/d/link"}} {
			assertPrintable(t, text(t, i.Session, words...))
		}
		stat := document[inspect.Stat](t, i.Session, "stat", "/d/\xff\xfe")
		assert.Equal(t, "/d/\ufffd\ufffd", stat.Path)
		assert.Equal(t, "/d/\xff\xfe", string(stat.PathBase64))
		assert.Equal(t, "\xff\xfe", string(stat.Xattrs[0].ValueBase64))
		link := document[inspect.Stat](t, i.Session, "stat", "/d/link")
		assert.Equal(t, "\x1b]0;title\x07\xff", string(link.TargetBase64))
		assert.Nil(t, link.PathBase64)
	}
}

func assertPrintable(t *testing.T, shown string) {
	t.Helper()
	for _, r := range shown {
		if r != '\n' && (r < ' ' || r >= 0x7f && r < 0xa0 || r == 0x202e || r == '\ufffd') {
			t.Errorf("%q has %q", shown, r)
			return
		}
	}
}
