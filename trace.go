package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"

	xhttp "github.com/aquasecurity/trivy/pkg/x/http"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/inspect"
)

// maxTraced is the longest body that --trace-http shows, in bytes. Trivy's trace reads
// a body whole into memory; of a longer one it is given none, since a part of it could
// end within a password, which would not be known for one.
const maxTraced = 64 << 10

// A tracer writes what passes to out (--trace-http).
type tracer struct {
	inner, traced http.RoundTripper
	out           io.Writer
}

func newTracer(inner http.RoundTripper, out io.Writer) *tracer {
	return &tracer{inner, xhttp.NewTraceTransport(shortBodies{inner}, xhttp.WithWriter(traceWriter{out})), out}
}

// RoundTrip implements [http.RoundTripper]. A login is posted to a token service, which
// may quote it in its answer, in any form: of that nothing is shown.
func (t *tracer) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Method != http.MethodPost {
		var body io.ReadCloser
		resp, err := t.traced.RoundTrip(req.WithContext(context.WithValue(req.Context(), bodyKey{}, &body)))
		if err == nil {
			resp.Request, resp.Body = req, body
		}
		return resp, err
	}
	resp, err := t.inner.RoundTrip(req)
	status := "no answer"
	if err == nil {
		status = http.StatusText(resp.StatusCode)
	}
	fmt.Fprintf(t.out, "\n--- HTTP REQUEST ---\nPOST %s: %s (a login, which is not shown)\n", req.URL.Host, status)
	return resp, err
}

// bodyKey is where, in a request's context, the body of the answer is put.
type bodyKey struct{}

// shortBodies shows the trace bodies that are not long, and keeps them whole.
type shortBodies struct{ inner http.RoundTripper }

// RoundTrip implements [http.RoundTripper].
func (s shortBodies) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := s.inner.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	head, err := io.ReadAll(io.LimitReader(resp.Body, maxTraced+1))
	whole := io.MultiReader(bytes.NewReader(head), resp.Body)
	if err != nil {
		whole = io.MultiReader(bytes.NewReader(head), brokenOff{err})
	}
	*req.Context().Value(bodyKey{}).(*io.ReadCloser) = struct {
		io.Reader
		io.Closer
	}{whole, resp.Body}
	shown := *resp
	shown.Body = io.NopCloser(bytes.NewReader(head))
	if len(head) > maxTraced {
		shown.Body = io.NopCloser(strings.NewReader(fmt.Sprintf("<more than %d bytes, which are not shown>", maxTraced)))
	}
	return &shown, nil
}

// brokenOff is the rest of a body that broke off.
type brokenOff struct{ err error }

func (b brokenOff) Read([]byte) (int, error) { return 0, b.err }

// A traceWriter takes out of --trace-http what Trivy leaves in: the queries of
// addresses, in which redirects are signed, fields with tokens that it does not know,
// and what a terminal would obey. Colours go, too: nothing tells which are Trivy's.
type traceWriter struct{ io.Writer }

var (
	traceQueries = regexp.MustCompile(`\?[^\s"'\x1b]+`)
	traceTokens  = regexp.MustCompile(`(?i)("[a-z_]*(?:token|password|secret)"\s*:\s*)"[^"]*"`)
)

func (w traceWriter) Write(p []byte) (int, error) {
	text := traceQueries.ReplaceAll(p, []byte("?(query)"))
	text = traceTokens.ReplaceAll(text, []byte(`$1"<redacted>"`))
	if _, err := io.WriteString(w.Writer, inspect.EscapeText(string(colours.ReplaceAll(text, nil)))); err != nil {
		return 0, err
	}
	return len(p), nil
}
