package testregistry

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// Request is one request that a Proxy answered.
type Request struct {
	Client string // the address, one for each connection
	Method string
	Path   string
	Range  string // the Range header, empty where there was none
	Status int    // 0 where no answer was begun
	Bytes  int64  // of the response body, as they went over the wire
}

// IsBlob says whether the request was for a blob: a layer or a config.
func (r Request) IsBlob() bool { return strings.Contains(r.Path, "/blobs/") }

// IsManifest says whether the request was for a manifest or an index.
func (r Request) IsManifest() bool { return strings.Contains(r.Path, "/manifests/") }

// Proxy is a reverse proxy in front of a registry that keeps account of what goes through. It is safe for concurrent
// use.
type Proxy struct {
	server *httptest.Server
	target *url.URL
	direct *httputil.ReverseProxy

	mu        sync.Mutex
	log       []*Request
	intercept func(http.ResponseWriter, *http.Request) bool
	shape     *shaper
}

// CountingProxy starts a proxy before target, a base address or a "host:port" of plain HTTP, until the test ends.
func CountingProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	if !strings.Contains(target, "://") {
		target = "http://" + target
	}
	base, err := url.Parse(target)
	if err != nil {
		t.Fatalf("start a proxy before %q: %v", target, err)
	}
	p := &Proxy{target: base, shape: &shaper{}}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	transport.DisableCompression = true                               // bytes are counted as the registry sends them
	transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true} // of a test registry's own certificate
	p.direct = &httputil.ReverseProxy{
		// The Host header stays the client's, so that the registry's Location headers lead back here.
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(base)
			r.Out.Host = r.In.Host
		},
		Transport:     transport,
		FlushInterval: -1,
		ErrorHandler:  func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	p.server = httptest.NewUnstartedServer(p)
	p.server.Config.ConnContext = markConnection
	p.server.Start()
	t.Cleanup(func() {
		p.server.CloseClientConnections()
		p.server.Close()
		transport.CloseIdleConnections()
	})
	return p
}

// Host is the proxy's "127.0.0.1:port", to be used in references in place of the registry's.
func (p *Proxy) Host() string { return p.server.Listener.Addr().String() }

// URL is the proxy's base address, without a trailing slash.
func (p *Proxy) URL() string { return p.server.URL }

// Intercept sets a function that sees every request first and says whether it has answered it; nil takes it away.
// What it answers is logged like the rest. A panic with http.ErrAbortHandler breaks the connection.
func (p *Proxy) Intercept(f func(w http.ResponseWriter, r *http.Request) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.intercept = f
}

// Shape makes the proxy as slow as the link, for requests that come from now on.
func (p *Proxy) Shape(link Link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shape = &shaper{link: link}
}

// Forward passes a request on to the registry from within an Intercept function, for faults that need the true answer.
func (p *Proxy) Forward(w http.ResponseWriter, r *http.Request) { p.direct.ServeHTTP(w, r) }

// Requests is the number of requests since the start or the last Reset.
func (p *Proxy) Requests() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.log)
}

// Bytes is the sum of all response bodies since the start or the last Reset.
func (p *Proxy) Bytes() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	var sum int64
	for _, r := range p.log {
		sum += r.Bytes
	}
	return sum
}

// Log is the requests since the start or the last Reset, in the order in which they came.
func (p *Proxy) Log() []Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	log := make([]Request, len(p.log))
	for i, r := range p.log {
		log[i] = *r
	}
	return log
}

// Reset forgets all requests so far.
func (p *Proxy) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.log = nil
}

// ServeHTTP implements http.Handler. A request is in the log before it is answered and its bytes are counted before they
// are sent, so that a client which has its answer finds all of it in the account.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	entry := &Request{Client: r.RemoteAddr, Method: r.Method, Path: r.URL.Path, Range: r.Header.Get("Range")}
	p.mu.Lock()
	p.log = append(p.log, entry)
	intercept, shape := p.intercept, p.shape
	p.mu.Unlock()
	shape.request(r)
	counted := &countingWriter{ResponseWriter: w, mu: &p.mu, entry: entry, shape: shape}
	if intercept != nil && intercept(counted, r) {
		return
	}
	if shape.link.SingleRanges && strings.Contains(entry.Range, ",") {
		r.Header.Del("Range") // a server may ignore it (RFC 9110)
	}
	p.direct.ServeHTTP(counted, r)
}

// countingWriter notes the status and the bytes of a response in its log entry.
type countingWriter struct {
	http.ResponseWriter
	mu    *sync.Mutex
	entry *Request
	shape *shaper
}

// note sets the status, if it is the first final one, and adds bytes.
func (w *countingWriter) note(status, bytes int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.entry.Status == 0 && status >= 200 {
		w.entry.Status = status
	}
	w.entry.Bytes += int64(bytes)
}

func (w *countingWriter) WriteHeader(status int) {
	w.note(status, 0)
	w.ResponseWriter.WriteHeader(status)
}

func (w *countingWriter) Write(p []byte) (int, error) {
	w.note(http.StatusOK, len(p))
	n, err := w.shape.write(p, w.ResponseWriter.Write)
	w.note(http.StatusOK, n-len(p))
	return n, err
}

// Unwrap lets http.ResponseController reach the connection, to flush it or to take it over.
func (w *countingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
