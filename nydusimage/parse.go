package nydusimage

import (
	"bytes"
	"fmt"
	"io"
)

// maxValues bounds the values of a manifest, an index or a config: an index of 10,000
// manifests has some 100,000. An empty descriptor takes 3 bytes of a document and 136
// of memory.
const maxValues = 1 << 20

// parse decodes a manifest, an index or a config, by a function of
// go-containerregistry's.
func parse[T any](raw []byte, decode func(io.Reader) (*T, error)) (*T, error) {
	if countValues(raw) > maxValues {
		return nil, fmt.Errorf("%w: it has over %d values", ErrInvalid, maxValues)
	}
	document, err := decode(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return document, nil
}

// countValues returns at least how many values a JSON document has, but for one: each
// is behind a comma, or the first of an array or an object.
func countValues(raw []byte) int {
	values, quoted := 0, false
	for n := 0; n < len(raw); n++ {
		switch c := raw[n]; {
		case c == '"':
			quoted = !quoted
		case quoted && c == '\\':
			n++
		case !quoted && (c == ',' || c == '{' || c == '['):
			values++
		}
	}
	return values
}
