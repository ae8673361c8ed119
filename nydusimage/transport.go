package nydusimage

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/blob"
)

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// Guard keeps requests and credentials from where they do not belong, whatever a
// registry ("host" or "host:port"), or one of the mirrors that the user named for
// it, answers:
//
//   - Only loopback is spoken to in the clear, and with plainHTTP any host, but
//     credentials go in the clear to the registry alone. go-containerregistry by
//     itself would fall back to plain HTTP for private addresses.
//   - A registry sends nobody into this machine's own network or to a metadata
//     service, by a redirect or as a token service ([blob.CheckHost]).
//   - A refresh token, which is posted, does not follow a redirect to another host.
//   - Redirects come to an end. go-containerregistry by itself follows those of
//     manifests for ever.
//   - A Referer header, in which a signed address could go on, is left out.
func Guard(inner http.RoundTripper, plainHTTP bool, registry string, mirrors ...string) http.RoundTripper {
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		if err := blob.CheckHost(hostname(registry), req.URL.Hostname()); err != nil && !slices.Contains(mirrors, req.URL.Host) {
			return nil, &refusal{fmt.Errorf("%s leads to %w", registry, err)}
		}
		switch {
		case req.URL.Scheme == "https" && plainHTTP && req.URL.Host == registry:
			return nil, &refusal{fmt.Errorf("%s is spoken to without TLS", registry)}
		case req.URL.Scheme != "http" || isLoopback(req.URL.Hostname()):
		case !plainHTTP:
			return nil, &refusal{fmt.Errorf("%s is not spoken to without TLS unless --plain-http allows it", req.URL.Host)}
		case req.URL.Host != registry && (req.Header.Get("Authorization") != "" || req.Method == http.MethodPost):
			// A token service is posted the refresh token.
			return nil, &refusal{fmt.Errorf("credentials are not sent to %s without TLS", req.URL.Host)}
		}
		if n := redirects(req); n > maxRedirects {
			return nil, &refusal{fmt.Errorf("more than %d redirects from %s", maxRedirects, registry)}
		}
		if from := req.Response; from != nil && req.Method == http.MethodPost && from.Request.URL.Host != req.URL.Host {
			return nil, &refusal{fmt.Errorf("%s redirects to %s, where the refresh token does not go", from.Request.URL.Host, req.URL.Host)}
		}
		if req.Header.Get("Referer") != "" {
			req = req.Clone(req.Context())
			req.Header.Del("Referer")
		}
		return inner.RoundTrip(req)
	})
}

// maxRedirects is as many as net/http's client follows by itself.
const maxRedirects = 10

// redirects is how many answers in a row led to a request.
func redirects(req *http.Request) int {
	n := 0
	for r := req; r != nil && r.Response != nil; r = r.Response.Request {
		n++
	}
	return n
}

// hostname is a host without its port.
func hostname(host string) string { return (&url.URL{Host: host}).Hostname() }

// A refusal says why a request was not sent. No repetition changes it.
type refusal struct{ error }

func (r *refusal) Unwrap() error   { return r.error }
func (r *refusal) Permanent() bool { return true }

func isLoopback(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
