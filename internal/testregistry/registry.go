// Package testregistry runs registries for tests: the real docker-registry of Debian's package (distribution 2.8) on a
// free loopback port, and a proxy in front of a registry that counts, logs and spoils requests.
package testregistry

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// startTimeout is how long a registry may take until it answers.
const startTimeout = 20 * time.Second

// Registry is a running docker-registry. It ends with the test that started it.
type Registry struct {
	host string
	ca   []byte
}

// Host is the registry's "127.0.0.1:port".
func (r *Registry) Host() string { return r.host }

// URL is the registry's base address, without a trailing slash.
func (r *Registry) URL() string {
	if r.ca != nil {
		return "https://" + r.host
	}
	return "http://" + r.host
}

// CA is the certificate, in PEM, that signs a WithTLS registry's own; nil without TLS.
func (r *Registry) CA() []byte { return r.ca }

// Client is an HTTP client that trusts the registry's certificate.
func (r *Registry) Client() *http.Client {
	if r.ca == nil {
		return &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()}
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(r.ca)
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: pool}
	return &http.Client{Transport: transport}
}

// Option changes how a registry is started.
type Option func(*settings)

type settings struct {
	user, password string
	tls            bool
}

// WithHtpasswd makes the registry ask for basic authentication.
func WithHtpasswd(user, password string) Option {
	return func(s *settings) { s.user, s.password = user, password }
}

// WithTLS makes the registry speak TLS with a certificate of its own CA.
func WithTLS() Option { return func(s *settings) { s.tls = true } }

// Start runs a registry with empty storage until the test ends.
func Start(t testing.TB, options ...Option) *Registry {
	t.Helper()
	var s settings
	for _, o := range options {
		o(&s)
	}
	binary, err := exec.LookPath("/usr/bin/docker-registry")
	if err != nil {
		if binary, err = exec.LookPath("docker-registry"); err != nil {
			t.Fatalf("docker-registry is neither at /usr/bin nor on PATH: run make tools")
		}
	}
	// The port is free when asked for and may be taken before the registry listens: then it dies, and another is tried.
	var said string
	for range 5 {
		r, output, ok := tryStart(t, binary, s)
		if ok {
			return r
		}
		said = output
		if !strings.Contains(output, "address already in use") {
			break
		}
	}
	t.Fatalf("docker-registry did not answer within %v: %s", startTimeout, said)
	return nil
}

func tryStart(t testing.TB, binary string, s settings) (r *Registry, output string, ok bool) {
	t.Helper()
	dir := t.TempDir()
	r = &Registry{host: freeAddress(t)}
	config := configuration(t, dir, r, s)
	file := filepath.Join(dir, "config.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatalf("write the registry's configuration: %v", err)
	}
	log := filepath.Join(dir, "log")
	logFile, err := os.Create(log)
	if err != nil {
		t.Fatalf("make the registry's log: %v", err)
	}
	defer logFile.Close()
	cmd := exec.Command(binary, "serve", file)
	cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	cmd.Stdout, cmd.Stderr = logFile, logFile
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", binary, err)
	}
	exited := make(chan struct{})
	go func() { cmd.Wait(); close(exited) }()
	t.Cleanup(func() { cmd.Process.Kill(); <-exited })
	if r.waitReady(exited) {
		return r, "", true
	}
	raw, _ := os.ReadFile(log)
	return nil, string(bytes.TrimSpace(raw)), false
}

// waitReady asks for /v2/ until the registry answers, dies or the time is up.
func (r *Registry) waitReady(exited <-chan struct{}) bool {
	client := r.Client()
	defer client.CloseIdleConnections()
	client.Timeout = 2 * time.Second
	deadline := time.After(startTimeout)
	for {
		response, err := client.Get(r.URL() + "/v2/")
		if err == nil {
			response.Body.Close()
			return true
		}
		select {
		case <-exited:
			return false
		case <-deadline:
			return false
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func configuration(t testing.TB, dir string, r *Registry, s settings) string {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "version: 0.1\nlog: {level: warn, accesslog: {disabled: true}}\n")
	fmt.Fprintf(&b, "storage:\n  filesystem: {rootdirectory: %q}\n  delete: {enabled: true}\n", filepath.Join(dir, "data"))
	fmt.Fprintf(&b, "http:\n  addr: %q\n", r.host)
	if s.tls {
		certificate, key := r.makeCertificate(t, dir)
		fmt.Fprintf(&b, "  tls: {certificate: %q, key: %q}\n", certificate, key)
	}
	if s.user != "" {
		hash, err := bcrypt.GenerateFromPassword([]byte(s.password), bcrypt.MinCost)
		if err != nil {
			t.Fatalf("hash the registry's password: %v", err)
		}
		file := filepath.Join(dir, "htpasswd")
		if err := os.WriteFile(file, []byte(s.user+":"+string(hash)+"\n"), 0o600); err != nil {
			t.Fatalf("write the registry's htpasswd: %v", err)
		}
		fmt.Fprintf(&b, "auth:\n  htpasswd: {realm: test, path: %q}\n", file)
	}
	return b.String()
}

func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("find a free port: %v", err)
	}
	defer l.Close()
	return l.Addr().String()
}
