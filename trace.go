package main

import (
	"io"
	"regexp"
)

// A traceWriter takes out of --trace-http what Trivy leaves in: the queries of
// addresses, in which redirects are signed, and fields with tokens that it does
// not know.
type traceWriter struct{ io.Writer }

var (
	traceQueries = regexp.MustCompile(`\?[^\s"'\x1b]+`)
	traceTokens  = regexp.MustCompile(`(?i)("[a-z_]*(?:token|password|secret)"\s*:\s*)"[^"]*"`)
)

func (w traceWriter) Write(p []byte) (int, error) {
	text := traceQueries.ReplaceAll(p, []byte("?(query)"))
	text = traceTokens.ReplaceAll(text, []byte(`$1"<redacted>"`))
	if _, err := w.Writer.Write(text); err != nil {
		return 0, err
	}
	return len(p), nil
}
