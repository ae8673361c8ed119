package inspect

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Escape makes a name of an image safe for a terminal: bytes of what cannot be
// printed become \xNN, a backslash becomes two. A command line of a session
// takes it back, see [Words].
func Escape(name string) string {
	return spell(strings.ReplaceAll(name, `\`, `\\`), func(r rune) bool { return unicode.IsPrint(r) && r != utf8.RuneError })
}

// EscapeLine spells out, as \xNN, what of a text a terminal would obey, line ends
// among it, and what is no UTF-8. All else stays as it is, tabs and backslashes too.
func EscapeLine(text string) string { return spell(text, harmless) }

// EscapeText is [EscapeLine] of each line of a text. LF and CR LF end a line.
func EscapeText(text string) string {
	if !strings.Contains(text, "\r") {
		return spell(text, func(r rune) bool { return r == '\n' || harmless(r) })
	}
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		body, ended := strings.CutSuffix(line, "\r")
		lines[i] = EscapeLine(body)
		if ended {
			lines[i] += "\r"
		}
	}
	return strings.Join(lines, "\n")
}

// harmless says whether a terminal shows a character and does nothing else. Control
// characters it obeys, and characters that begin text of another direction can show
// what follows in another order; single marks of right-to-left text cannot.
func harmless(r rune) bool {
	turns := r >= '\u202a' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069'
	return r == '\t' || !unicode.IsControl(r) && !turns
}

// spell writes the bytes of characters that are not plain as \xNN, and those that are
// no UTF-8.
func spell(text string, plain func(rune) bool) string {
	if utf8.ValidString(text) && strings.IndexFunc(text, func(r rune) bool { return !plain(r) }) < 0 {
		return text
	}
	var b strings.Builder
	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)
		if plain(r) && (r != utf8.RuneError || size > 1) {
			b.WriteString(text[:size])
		} else {
			for _, c := range []byte(text[:size]) {
				fmt.Fprintf(&b, `\x%02x`, c)
			}
		}
		text = text[size:]
	}
	return b.String()
}

// EscapeJSON escapes in a document of JSON what a terminal would obey and JSON lets
// stand: DEL, the control characters from U+0080 on, and marks that turn the
// direction of text. It means the same then; bytes that are no UTF-8 become U+FFFD,
// which who reads the document makes of them, too.
func EscapeJSON(document []byte) []byte {
	plain := func(r rune) bool { return r < 0x7f || unicode.IsPrint(r) }
	if utf8.Valid(document) && bytes.IndexFunc(document, func(r rune) bool { return !plain(r) }) < 0 {
		return document
	}
	var b bytes.Buffer
	for _, r := range string(document) {
		switch {
		case plain(r):
			b.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.Bytes()
}

// A textWriter writes text as it is or, for a terminal, as [EscapeText] has it. It must be
// ended.
type textWriter struct {
	to     io.Writer
	escape bool
	rest   []byte // the beginning of a character, or CR
}

// Write implements [io.Writer].
func (w *textWriter) Write(p []byte) (int, error) {
	if !w.escape {
		return w.to.Write(p)
	}
	w.rest = append(w.rest, p...)
	whole := len(w.rest) - unfinished(w.rest)
	_, err := io.WriteString(w.to, EscapeText(string(w.rest[:whole])))
	w.rest = append(w.rest[:0], w.rest[whole:]...)
	return len(p), err
}

// end writes what no text has followed. A CR there would let the prompt overwrite the line.
func (w *textWriter) end() error {
	_, err := io.WriteString(w.to, EscapeLine(string(w.rest)))
	return err
}

// unfinished is how many bytes at the end of a text may be another thing with what
// follows: of a character that is cut, or CR.
func unfinished(text []byte) int {
	if bytes.HasSuffix(text, []byte("\r")) {
		return 1
	}
	for n := 1; n < utf8.UTFMax && n <= len(text); n++ {
		if last := text[len(text)-n:]; utf8.RuneStart(last[0]) {
			if utf8.FullRune(last) {
				return 0
			}
			return n
		}
	}
	return 0
}

// bytesOf returns a string's bytes where JSON cannot hold it, else nil.
func bytesOf(s string) []byte {
	if utf8.ValidString(s) {
		return nil
	}
	return []byte(s)
}
