package inspect

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// escapedTexts are texts and what a terminal is to show of them.
var escapedTexts = map[string]string{
	"":                        "",
	"tab\tback\\slash\nline":  "tab\tback\\slash\nline",
	"of\r\nWindows\r\n":       "of\r\nWindows\r\n",
	"over\rwritten\n":         `over\x0dwritten` + "\n",
	"\x1b[31m\x00\x07\x7f":    `\x1b[31m\x00\x07\x7f`,
	"\u009b31m":               `\xc2\x9b31m`,
	"\x9b31m \xe9 \xe6\xbc":   `\x9b31m \xe9 \xe6\xbc`,
	"\u202egnp \u2066x\u2069": `\xe2\x80\xaegnp \xe2\x81\xa6x\xe2\x81\xa9`,
	"\u6f22\u5b57 \ufffd \U0001f600 no-break\u00a0space \u05d0\u200f": "\u6f22\u5b57 \ufffd \U0001f600 no-break\u00a0space \u05d0\u200f",
}

// TestEscapeText spells out what a terminal would obey, and nothing else.
func TestEscapeText(t *testing.T) {
	for text, want := range escapedTexts {
		assert.Equal(t, want, EscapeText(text), "%q", text)
		assert.Equal(t, strings.NewReplacer("\n", `\x0a`, "\r", `\x0d`).Replace(want), EscapeLine(text), "%q", text)
	}
}

// TestTextWriter writes texts in pieces, which changes nothing.
func TestTextWriter(t *testing.T) {
	for text, want := range escapedTexts {
		for size := 1; size <= len(text); size++ {
			var out bytes.Buffer
			w := textWriter{to: &out, escape: true}
			for at := 0; at < len(text); at += size {
				_, err := w.Write([]byte(text[at:min(at+size, len(text))]))
				require.NoError(t, err)
			}
			require.NoError(t, w.end())
			assert.Equal(t, want, out.String(), "%q in pieces of %d", text, size)
		}
	}
	var out bytes.Buffer
	w := textWriter{to: &out}
	_, err := w.Write([]byte("\x1b\xe9\r"))
	require.NoError(t, err)
	require.NoError(t, w.end())
	assert.Equal(t, "\x1b\xe9\r", out.String(), "as it is")
}
