package inspect

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Escape makes a name of an image safe for a terminal: bytes of what cannot be
// printed become \xNN, a backslash becomes two. A command line of a session
// takes it back, see [Words].
func Escape(name string) string {
	plain := func(r rune) bool { return unicode.IsPrint(r) && r != '\\' && r != utf8.RuneError }
	if strings.IndexFunc(name, func(r rune) bool { return !plain(r) }) < 0 {
		return name
	}
	var b strings.Builder
	for len(name) > 0 {
		r, size := utf8.DecodeRuneInString(name)
		switch {
		case r == '\\':
			b.WriteString(`\\`)
		case plain(r):
			b.WriteString(name[:size])
		default:
			for _, c := range []byte(name[:size]) {
				fmt.Fprintf(&b, `\x%02x`, c)
			}
		}
		name = name[size:]
	}
	return b.String()
}

// EscapeJSON escapes in a document of JSON what a terminal would obey and JSON lets
// stand: DEL, the control characters from U+0080 on, and marks that turn the
// direction of text. It means the same then.
func EscapeJSON(document []byte) []byte {
	harmless := func(r rune) bool { return r < 0x7f || unicode.IsPrint(r) }
	if bytes.IndexFunc(document, func(r rune) bool { return !harmless(r) }) < 0 {
		return document
	}
	var b bytes.Buffer
	for _, r := range string(document) {
		switch {
		case harmless(r):
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

// bytesOf returns a string's bytes where JSON cannot hold it, else nil.
func bytesOf(s string) []byte {
	if utf8.ValidString(s) {
		return nil
	}
	return []byte(s)
}
