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
