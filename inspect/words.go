package inspect

import (
	"errors"
	"strconv"
	"strings"
)

var (
	errQuote  = errors.New("a quotation mark is not closed")
	errEscape = errors.New(`a backslash is followed by nothing, or \x not by two hexadecimal digits`)
)

// Words splits a command line as a shell does: at blanks, but for those in quotes
// or behind a backslash. Single quotes take all literally. Elsewhere \xNN is a
// byte, so that names can be given as [Escape] shows them.
func Words(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	begun := false
	var quote byte
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case c == quote && quote != 0:
			quote = 0
		case quote == '\'':
			word.WriteByte(c)
		case c == '\\':
			b, used, err := unescape(line[i+1:])
			if err != nil {
				return nil, err
			}
			word.WriteByte(b)
			begun = true
			i += used
		case quote != 0:
			word.WriteByte(c)
		case c == '"' || c == '\'':
			quote, begun = c, true
		case c == ' ' || c == '\t' || c == '\r' || c == '\n':
			if begun {
				words = append(words, word.String())
				word.Reset()
				begun = false
			}
		default:
			word.WriteByte(c)
			begun = true
		}
	}
	if quote != 0 {
		return nil, errQuote
	}
	if begun {
		words = append(words, word.String())
	}
	return words, nil
}

// unescape reads what follows a backslash: the byte that it stands for, and how
// many bytes were read.
func unescape(rest string) (b byte, used int, err error) {
	switch {
	case rest == "":
		return 0, 0, errEscape
	case rest[0] != 'x':
		return rest[0], 1, nil
	case len(rest) < 3:
		return 0, 0, errEscape
	}
	n, err := strconv.ParseUint(rest[1:3], 16, 8)
	if err != nil {
		return 0, 0, errEscape
	}
	return byte(n), 3, nil
}
