package inspect

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
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
// spelling are kept, but for white space and what a terminal would obey.
type document struct {
	raw  []byte
	name string
}

func (d document) json(w *bufio.Writer) error {
	var b bytes.Buffer
	if err := json.Compact(&b, d.raw); err != nil {
		return fmt.Errorf("the image's %s: %w", d.name, err)
	}
	_, err := w.Write(EscapeJSON(b.Bytes()))
	return err
}

// Text implements [Answer].
func (d document) Text(w *bufio.Writer) error {
	var b bytes.Buffer
	if err := json.Indent(&b, d.raw, "", "  "); err != nil {
		return fmt.Errorf("the image's %s: %w", d.name, err)
	}
	w.Write(EscapeJSON(b.Bytes()))
	return w.WriteByte('\n')
}
