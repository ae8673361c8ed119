package main

import (
	"bytes"
	"errors"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/aquasecurity/trivy/pkg/log"
)

// TestVisibleLog: what the log says of an image does nothing to a terminal.
func TestVisibleLog(t *testing.T) {
	var out bytes.Buffer
	bad := "esc\x1b]0;title\x07 \u202e\xff\u009b"
	logger := log.New(visibleLog{log.NewHandler(&out, &log.Options{Level: log.LevelDebug})})
	logger.With(slog.String("name", bad), slog.Any("list", []string{bad})).WithGroup("g").Warn("first\nsecond "+bad, log.Err(errors.New(bad+"\nmore")), log.FilePath(bad))
	text := out.String()
	for _, c := range []string{"\x1b]", "\x07", "\u202e", "\xff", "\u009b", "\nmore"} {
		assert.NotContains(t, text, c)
	}
	assert.Contains(t, text, "first\nsecond esc\\x1b]0;title", "line feeds of a message stay")
}

// TestVisibleLines: so does what another process logs, which may crash over an image.
func TestVisibleLines(t *testing.T) {
	write := func(l *visibleLines, parts ...string) {
		for _, part := range parts {
			n, err := l.Write([]byte(part))
			assert.NoError(t, err)
			assert.Len(t, part, n)
		}
	}
	var out bytes.Buffer
	write(&visibleLines{to: &out}, "on", "e\ntwo \x1b]0;title\x07\tx\npanic: oh\n", "\ngoroutine 1 [running]:\nmain.main()\n", "\tmain.go:1\n")
	assert.Equal(t, "one\ntwo \\x1b]0;title\\x07\tx\npanic: oh\n\n", out.String())
	out.Reset()
	write(&visibleLines{to: &out, stacks: true}, "panic: oh\ngoroutine 1 [running]:\nmain.main()\n")
	assert.Contains(t, out.String(), "main.main()")
	out.Reset()
	write(&visibleLines{to: &out}, string(bytes.Repeat([]byte("x"), 3*maxError)))
	assert.Contains(t, out.String(), "xxx", "a line without end takes no memory")
}
