package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// A visibleLog is Trivy's log with the control characters of what it says made
// visible: names of an image are in it. Line feeds of messages stay, since Trivy's
// own have some.
type visibleLog struct{ slog.Handler }

// Handle implements [slog.Handler].
func (l visibleLog) Handle(ctx context.Context, r slog.Record) error {
	lines := strings.Split(r.Message, "\n")
	for i := range lines {
		lines[i] = printable(strings.ReplaceAll(lines[i], "\t", " "))
	}
	clean := slog.NewRecord(r.Time, r.Level, strings.Join(lines, "\n"), r.PC)
	r.Attrs(func(a slog.Attr) bool {
		clean.AddAttrs(visibleAttr(a))
		return true
	})
	return line.beside(func() error { return l.Handler.Handle(ctx, clean) })
}

// WithAttrs implements [slog.Handler].
func (l visibleLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	clean := make([]slog.Attr, len(attrs))
	for i := range attrs {
		clean[i] = visibleAttr(attrs[i])
	}
	return visibleLog{l.Handler.WithAttrs(clean)}
}

// WithGroup implements [slog.Handler].
func (l visibleLog) WithGroup(name string) slog.Handler {
	return visibleLog{l.Handler.WithGroup(name)}
}

// visibleAttr makes the values visible that Trivy's log prints as they are: strings
// it quotes.
func visibleAttr(a slog.Attr) slog.Attr {
	switch value := a.Value.Any().(type) {
	case error:
		a.Value = slog.AnyValue(errors.New(oneLine(value.Error())))
	case []string:
		clean := make([]string, len(value))
		for i := range value {
			clean[i] = oneLine(value[i])
		}
		a.Value = slog.AnyValue(clean)
	}
	return a
}

// visibleLines passes on the log of another process of this program, with control
// characters made visible, and without the stacks where it crashes.
type visibleLines struct {
	to      io.Writer
	stacks  bool // wanted all the same
	crashed bool
	rest    []byte // of a line that has not ended
}

func (l *visibleLines) Write(p []byte) (int, error) {
	l.rest = append(l.rest, p...)
	for {
		text, rest, ended := bytes.Cut(l.rest, []byte("\n"))
		if !ended && len(l.rest) < maxError {
			return len(p), nil
		}
		l.rest = rest
		if l.crashed = l.crashed || !l.stacks && bytes.HasPrefix(text, []byte("goroutine ")); l.crashed {
			continue
		}
		fields := strings.Split(string(text), "\t") // as Trivy's log has them
		for i := range fields {
			fields[i] = printable(fields[i])
		}
		shown := strings.Join(fields, "\t")
		if err := line.beside(func() error { _, err := fmt.Fprintln(l.to, shown); return err }); err != nil {
			return 0, err
		}
	}
}
