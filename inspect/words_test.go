package inspect_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/inspect"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
)

func TestWords(t *testing.T) {
	for line, want := range map[string][]string{
		"":                          nil,
		" \t":                       nil,
		"ls":                        {"ls"},
		"  ls   /a  ":               {"ls", "/a"},
		`cat 'a b' "c d" e\ f`:      {"cat", "a b", "c d", "e f"},
		`a'b'"c"d`:                  {"abcd"},
		`'' ""`:                     {"", ""},
		`'\x41' \x41 "\x41"`:        {`\x41`, "A", "A"},
		`"it's" 'say "x"' \"`:       {"it's", `say "x"`, `"`},
		`\xff\\\x0a`:                {"\xff\\\n"},
		"find --name '*.so' / \r\n": {"find", "--name", "*.so", "/"},
	} {
		words, err := inspect.Words(line)
		require.NoError(t, err, "%q", line)
		assert.Equal(t, want, words, "%q", line)
	}
	for _, line := range []string{`'`, `"a`, `a\`, `\x`, `\x4`, `\xgg`} {
		_, err := inspect.Words(line)
		assert.Error(t, err, "%q", line)
	}
}

// TestEscapeIsTakenBack: what is shown can be typed.
func TestEscapeIsTakenBack(t *testing.T) {
	names := append(testimage.OddNames(), "\x1b[31mred\x07", "\xff\xfe", "\u202eright-to-left", "\u009bC1", "\ufffd", `\x41`)
	for _, name := range names {
		shown := inspect.Escape(name)
		for _, r := range shown {
			assert.False(t, r < ' ' || r >= 0x7f && r < 0xa0 || r == 0x202e, "%q is shown as %q", name, shown)
		}
		for _, space := range []string{" ", "'", `"`} {
			shown = strings.ReplaceAll(shown, space, `\`+space)
		}
		words, err := inspect.Words(shown)
		require.NoError(t, err, "%q is shown as %q", name, shown)
		assert.Equal(t, []string{name}, words)
	}
}

func FuzzWords(f *testing.F) {
	f.Add(`ls "a b" \x00`)
	f.Fuzz(func(t *testing.T, line string) {
		words, err := inspect.Words(line)
		if err != nil {
			return
		}
		call, err := inspect.Parse(words)
		if err == nil && call.Command == nil {
			t.Errorf("%q is a call of no command", line)
		}
	})
}
