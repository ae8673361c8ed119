//go:build linux

package e2e

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testterminal"
)

// columns are those of a narrow terminal.
const columns = 40

// onTerminal runs a command whose output goes to a terminal, and returns its exit code
// and what it wrote.
func onTerminal(t *testing.T, args ...string) (code int, wrote string) {
	t.Helper()
	console := testterminal.Open(t, columns)
	p := prepare(t, "trivy-nydus", args...)
	p.Cmd.Stdout, p.Cmd.Stderr = console.Program(), console.Program()
	require.NoError(t, p.Start())
	r := p.wait(t)
	return r.code, console.End()
}

// colour is the only control sequence of ours.
var colour = regexp.MustCompile(`\x1b\[[0-9;]*m`)

// screen is what a terminal shows of what was written: a carriage return goes to the
// beginning of the row, and what is longer than a row goes on in the next. A line
// that does is one line here. It fails for all else that a terminal would obey.
func screen(t *testing.T, wrote string) []string {
	t.Helper()
	var lines []string
	for line := range strings.SplitSeq(strings.ReplaceAll(colour.ReplaceAllString(wrote, ""), "\r\n", "\n"), "\n") {
		var shown []rune
		row, at := 0, 0 // both in runes from the beginning of the line
		for _, r := range line {
			if r == '\r' {
				at = row
				continue
			}
			if r != '\t' && r < ' ' || r >= 0x7f && r < 0xa0 {
				assert.Failf(t, "a terminal would obey", "%q in %q", r, line)
			}
			if at == row+columns {
				row = at
			}
			if at == len(shown) {
				shown = append(shown, ' ')
			}
			shown[at] = r
			at++
		}
		lines = append(lines, strings.TrimRight(string(shown), " "))
	}
	return lines
}

// times are what differs between two runs.
var times = regexp.MustCompile(`\d+\.\d+ s|\d{4}-\d\d-\d\dT[0-9:]*Z?|\d+ requests?`)

// TestTerminal runs commands on a terminal of 40 columns and with pipes: what is shown
// in the end is the same, the exit code is, and nothing in it comes from an image that
// a terminal would obey.
func TestTerminal(t *testing.T) {
	t.Parallel()
	sound, damaged := evilLayouts(t)
	registry := testregistry.Start(t)
	tiny := publish(t, registry, testimage.Tiny(t))
	slow := testregistry.CountingProxy(t, registry.Host())
	slow.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Range") != "" {
			time.Sleep(300 * time.Millisecond) // or there would be no time to show anything
		}
		return false
	})
	reference := slow.Host() + strings.TrimPrefix(tiny, registry.Host())
	report := filepath.Join(t.TempDir(), "report.json")
	scan := append(slices.Clone(scanFlags), "--format", "json", "--output", report)
	for _, c := range []struct {
		name string
		args []string
		bar  bool
	}{
		{"scan", append(slices.Clone(scan), reference+":v6"), true},
		{"scan of evil names", append(slices.Clone(scan), "--exit-code", "7", sound), false},
		{"scan that is refused", append(slices.Clone(scan), damaged), false},
		{"check", []string{"check", reference + ":oci", reference + ":v6"}, true},
		{"check of another image", []string{"check", reference + ":oci", sound}, false},
		{"check of a damaged image", []string{"check", "--data", "full", damaged}, false},
		{"inspect", []string{"inspect", sound, "ls", "--recursive", "/"}, false},
		{"inspect of an image that is not there", []string{"inspect", reference + ":\x1b[31mnone", "ls"}, false},
		{"inspect of a file that is not there", []string{"inspect", damaged, "stat", "/nothing\x1b[31m"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			piped := prepare(t, "trivy-nydus", append(slices.Clone(c.args), "--cache-dir", t.TempDir())...)
			piped.Cmd.Stderr = &piped.stdout // in the order in which it comes
			require.NoError(t, piped.Start())
			want := piped.wait(t)
			code, wrote := onTerminal(t, append(slices.Clone(c.args), "--cache-dir", t.TempDir())...)
			assert.Equal(t, want.code, code, wrote)
			visible(t, c.name, wrote)
			assert.Equal(t, times.ReplaceAllString(strings.Join(screen(t, want.stdout), "\n"), "…"),
				times.ReplaceAllString(strings.Join(screen(t, wrote), "\n"), "…"))
			if c.bar {
				assert.Regexp(t, `\r\d+[^\r\n]* / \d+[^\r\n]*\[`, wrote, "progress")
			}
		})
	}
}

// evilText is a line that a terminal would obey, in a file that a report shows.
const evilText = "# esc\x1b[31mred\x1b]0;title\x07 c1\u009b31m bidi\u202egnp\r over\n"

// TestReportOnTerminal writes reports about files of evil names and texts to a terminal,
// which obeys nothing of them; tables have nothing such in a pipe either.
func TestReportOnTerminal(t *testing.T) {
	t.Parallel()
	var files []testimage.CraftedFile
	for _, n := range evilNames {
		f := secretText("srv/" + n + ".env")
		f.Data = slices.Concat([]byte(evilText), f.Data)
		files = append(files, f)
	}
	layout := craftedLayout(t, testimage.Crafted{Merged: files})
	scan := slices.Concat(scanFlags, []string{"--quiet", "--cache-dir", t.TempDir()})
	for _, c := range []struct {
		name   string
		format []string
		shows  string // a name as it is written
	}{
		{"table", nil, `/srv/new\x0aline.env`},
		{"json", []string{"--format", "json"}, `/srv/new\nline.env`},
		{"template", []string{"--format", "template", "--template", "{{range .}}{{.Target}}\t{{end}}"}, `/srv/esc\x1b[31mred`},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := slices.Concat(scan, c.format, []string{layout})
			code, wrote := onTerminal(t, args...)
			require.Zero(t, code, wrote)
			assert.Contains(t, strings.Join(screen(t, wrote), "\n"), c.shows)
			if c.name != "template" { // whose line ends are its own
				visible(t, c.name, wrote)
			}
			if c.name == "table" {
				r := run(t, "trivy-nydus", args...)
				assert.Contains(t, r.stdout, c.shows)
				assert.Contains(t, r.stdout, `# esc\x1b[31mred\x1b]0;title\x07 c1\xc2\x9b31m bidi\xe2\x80\xaegnp over`, "a line of the file, without CR as Trivy shows it")
				visible(t, "table in a pipe", r.stdout)
			}
		})
	}
}

// TestFileOnTerminal prints a file: to a terminal without what that would obey, else as it
// is.
func TestFileOnTerminal(t *testing.T) {
	t.Parallel()
	layout := craftedLayout(t, testimage.Crafted{Merged: []testimage.CraftedFile{testimage.CraftedText("evil", evilText)}})
	for _, command := range [][]string{{"cat", "/evil"}, {"export", "/", "-o", "-"}} {
		args := append([]string{"inspect", "--cache-dir", t.TempDir(), layout}, command...)
		code, wrote := onTerminal(t, args...)
		require.Zero(t, code, wrote)
		assert.Contains(t, strings.Join(screen(t, wrote), "\n"), `# esc\x1b[31mred\x1b]0;title\x07`)
		visible(t, command[0], wrote)
		assert.Contains(t, run(t, "trivy-nydus", args...).stdout, evilText)
	}
}

// TestRegistryOnTerminal asks a registry whose errors a terminal would obey.
func TestRegistryOnTerminal(t *testing.T) {
	t.Parallel()
	const evil = "esc\x1b[31mred\x1b]0;title\x07 c1\u009b31m bidi\u202egnp"
	document := `{"errors":[{"code":"DENIED","message":"` + strings.NewReplacer("\x1b", `\u001b`, "\x07", `\u0007`).Replace(evil) + `"}]}`
	for name, body := range map[string]string{"errors": document, "text": evil, "no UTF-8": evil + "latin\xe9."} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/v2/" {
				return
			}
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write([]byte(body))
		}))
		t.Cleanup(server.Close)
		reference := strings.TrimPrefix(server.URL, "http://") + "/image:tag"
		for _, args := range [][]string{append(slices.Clone(scanFlags), "--debug", reference), {"check", reference}, {"inspect", reference, "stats"}} {
			t.Run(name+" "+args[0], func(t *testing.T) {
				code, wrote := onTerminal(t, append(args, "--cache-dir", t.TempDir())...)
				assert.Equal(t, 2, code, wrote)
				assert.Contains(t, strings.Join(screen(t, wrote), "\n"), `esc\x1b[31mred`)
				visible(t, name, wrote)
			})
		}
	}
}
