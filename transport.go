package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/aquasecurity/trivy/pkg/version/app"
	xhttp "github.com/aquasecurity/trivy/pkg/x/http"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
)

// maxIdle connections to a host stay open: the default of two would close most
// of those that parallel ranges use.
const maxIdle = 16

// With HTTP/2 all requests share one connection. One on which nothing comes for
// silence is asked whether it lives, and given up if that is not answered either,
// before the watchdog of blobs (30 s) tries again: that would be on the same connection.
const silence = 10 * time.Second

// transport is the transport to a registry and its mirrors. All images of a session
// share it, and so its connections.
func (s *service) transport(registry string) (http.RoundTripper, error) {
	s.transportsMu.Lock()
	defer s.transportsMu.Unlock()
	if carrier, ok := s.transports[registry]; ok {
		return carrier, nil
	}
	carrier, err := s.newTransport(registry)
	if err != nil {
		return nil, err
	}
	if s.transports == nil {
		s.transports = make(map[string]http.RoundTripper)
	}
	s.transports[registry] = carrier
	return carrier, nil
}

// newTransport is Trivy's, with --insecure, --cacert and the proxy variables, and
// the certificates that docker and podman keep for the registry and its mirrors.
func (s *service) newTransport(registry string, options ...xhttp.TransportOption) (http.RoundTripper, error) {
	trivy := xhttp.NewTransport(xhttp.Options{
		Insecure: s.options.Insecure,
		CACerts:  s.options.CACerts,
		Timeout:  s.options.Timeout,
	})
	var base *http.Transport
	trivy.Build(append(options, func(t *http.Transport) {
		t.MaxIdleConnsPerHost = maxIdle
		t.HTTP2 = &http.HTTP2Config{SendPingTimeout: silence, PingTimeout: silence}
		base = t
	})...)
	carrier, err := nydusimage.WithHostCertificates(base, append(s.mirrors(registry), registry)...)
	if err != nil {
		return nil, err
	}
	if s.options.TraceHTTP {
		carrier = newTracer(carrier, s.stderr)
	}
	return xhttp.NewUserAgent(carrier, fmt.Sprintf("trivy-nydus/%s trivy/%s", version, app.Version())), nil
}

// mirrors are the hosts of the mirrors that trivy.yaml names for a registry.
func (s *service) mirrors(registry string) []string {
	var hosts []string
	for _, mirror := range s.options.RegistryMirrors[registry] {
		host, _, _ := strings.Cut(mirror, "/")
		hosts = append(hosts, host)
	}
	return hosts
}

// guard returns a context in which Trivy's own requests to a registry use our
// transport, kept off plain HTTP.
func (s *service) guard(ctx context.Context, registry string) context.Context {
	return xhttp.WithTransport(ctx, guardedTransport{service: s, registry: registry})
}

// A guardedTransport is our transport in the form that Trivy takes.
type guardedTransport struct {
	service  *service
	registry string
}

// Build implements [xhttp.Transport].
func (g guardedTransport) Build(options ...xhttp.TransportOption) http.RoundTripper {
	var carrier http.RoundTripper
	var err error
	if len(options) == 0 {
		carrier, err = g.service.transport(g.registry)
	} else { // they are not for all requests
		carrier, err = g.service.newTransport(g.registry, options...)
	}
	if err != nil {
		return failing{err}
	}
	return nydusimage.Guard(carrier, g.service.ours.plainHTTP, g.registry, g.service.mirrors(g.registry)...)
}

// failing is a transport that could not be made.
type failing struct{ err error }

func (f failing) RoundTrip(*http.Request) (*http.Response, error) { return nil, f.err }
