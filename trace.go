package main

import (
	"fmt"
	"io"
	"net/http"
	"regexp"

	xhttp "github.com/aquasecurity/trivy/pkg/x/http"
)

// A tracer writes what passes to out (--trace-http).
type tracer struct {
	inner, traced http.RoundTripper
	out           io.Writer
}

func newTracer(inner http.RoundTripper, out io.Writer) *tracer {
	return &tracer{inner, xhttp.NewTraceTransport(inner, xhttp.WithWriter(traceWriter{out})), out}
}

// RoundTrip implements [http.RoundTripper]. A login is posted to a token service, which
// may quote it in its answer, in any form: of that nothing is shown.
func (t *tracer) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Method != http.MethodPost {
		return t.traced.RoundTrip(req)
	}
	resp, err := t.inner.RoundTrip(req)
	status := "no answer"
	if err == nil {
		status = http.StatusText(resp.StatusCode)
	}
	fmt.Fprintf(t.out, "\n--- HTTP REQUEST ---\nPOST %s: %s (a login, which is not shown)\n", req.URL.Host, status)
	return resp, err
}

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
