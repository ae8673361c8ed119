package inspect

import (
	"fmt"
	"strings"
	"unicode"
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

// bytesOf returns a string's bytes where JSON cannot hold it, else nil.
func bytesOf(s string) []byte {
	if utf8.ValidString(s) {
		return nil
	}
	return []byte(s)
}
