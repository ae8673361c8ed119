package inspect

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"unicode"
	"unicode/utf16"
)

// manifest gives the image's manifest.
func manifest(_ context.Context, s *Session, _ *Call) (Answer, error) {
	if s.image == nil {
		return nil, ErrNoImage
	}
	return document{s.image.RawManifest, "manifest"}, nil
}

// config gives the image's configuration.
func config(_ context.Context, s *Session, _ *Call) (Answer, error) {
	if s.image == nil {
		return nil, ErrNoImage
	}
	return document{s.image.RawConfig, "config"}, nil
}

// A document is JSON as the image stores it: its members, their order and their
// spelling are kept, but for white space.
type document struct {
	raw  []byte
	name string
}

func (d document) json(w *bufio.Writer) error {
	var b bytes.Buffer
	if err := json.Compact(&b, d.raw); err != nil {
		return fmt.Errorf("the image's %s: %w", d.name, err)
	}
	_, err := w.Write(b.Bytes())
	return err
}

// Text implements [Answer]. What a terminal might obey is written as \uNNNN, which
// means the same.
func (d document) Text(w *bufio.Writer) error {
	var b bytes.Buffer
	if err := json.Indent(&b, d.raw, "", "  "); err != nil {
		return fmt.Errorf("the image's %s: %w", d.name, err)
	}
	for _, r := range b.String() {
		switch {
		case r == '\n' || unicode.IsPrint(r):
			w.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(w, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(w, `\u%04x`, r)
		}
	}
	return w.WriteByte('\n')
}
