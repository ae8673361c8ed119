package nydusimage

import (
	"fmt"
	"net"
	"net/http"
	"strings"
)

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// GuardPlainHTTP keeps requests off unencrypted connections: only loopback is
// spoken to in the clear, and with plainHTTP any host, but credentials go in
// the clear to the registry alone. go-containerregistry by itself would fall
// back to plain HTTP for private addresses.
func GuardPlainHTTP(inner http.RoundTripper, registry string, plainHTTP bool) http.RoundTripper {
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		switch {
		case req.URL.Scheme == "https" && plainHTTP && req.URL.Host == registry:
			return nil, &refusal{fmt.Sprintf("%s is spoken to without TLS", registry)}
		case req.URL.Scheme != "http" || isLoopback(req.URL.Hostname()):
		case !plainHTTP:
			return nil, &refusal{fmt.Sprintf("%s is not spoken to without TLS unless --plain-http allows it", req.URL.Host)}
		case req.URL.Host != registry && (req.Header.Get("Authorization") != "" || req.Method == http.MethodPost):
			// A token service is posted the refresh token.
			return nil, &refusal{fmt.Sprintf("credentials are not sent to %s without TLS", req.URL.Host)}
		}
		return inner.RoundTrip(req)
	})
}

// A refusal is a request that was not sent. No repetition changes it.
type refusal struct{ reason string }

func (r *refusal) Error() string   { return r.reason }
func (r *refusal) Permanent() bool { return true }

func isLoopback(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
