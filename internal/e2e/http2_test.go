package e2e

import (
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
)

// TestHTTP2 reads from a registry with HTTP/2: all requests share one connection,
// and are as many, for as many bytes, as with HTTP/1.1.
func TestHTTP2(t *testing.T) {
	t.Parallel()
	registry := testregistry.Start(t)
	publish(t, registry, testimage.DebianApp(t))
	counted := testregistry.CountingProxy(t, registry.Host())
	args := append(slices.Clone(allScanners), "--cache-dir")
	want := report(t, "trivy-nydus", append(args, cacheDir(t), counted.Host()+"/test/debian-app:v6")...)
	requests, bytes := counted.Requests(), counted.Bytes()
	counted.Reset()

	front := startHTTP2(t, counted)
	got := report(t, "trivy-nydus", append(args, cacheDir(t), "--cacert", front.authority, front.Host()+"/test/debian-app:v6")...)
	assertSame(t, want, got)
	assert.EqualValues(t, 2, front.leastProtocol.Load())
	assert.EqualValues(t, 1, front.connections.Load())
	assert.Equal(t, requests, counted.Requests())
	assert.InEpsilon(t, bytes, counted.Bytes(), 0.01) // answers of several ranges have boundaries by chance
}

// TestHTTP2GoesSilent takes away, in the middle of a scan, the connection that all
// requests share: nothing comes any more, and nobody says so.
func TestHTTP2GoesSilent(t *testing.T) {
	t.Parallel()
	registry := testregistry.Start(t)
	publish(t, registry, testimage.DebianApp(t))
	counted := testregistry.CountingProxy(t, registry.Host())
	front := startHTTP2(t, counted)
	args := append(slices.Clone(allScanners), "--cacert", front.authority, front.Host()+"/test/debian-app:v6", "--cache-dir")
	want := report(t, "trivy-nydus", append(args, cacheDir(t))...)

	var blobs atomic.Int32
	counted.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Range") != "" && blobs.Add(1) == 2 {
			front.silence()
			<-r.Context().Done()
			return true
		}
		return false
	})
	start := time.Now()
	assertSame(t, want, report(t, "trivy-nydus", append(args, cacheDir(t))...))
	assert.Less(t, time.Since(start), time.Minute)
	assert.Greater(t, blobs.Load(), int32(2))
}

// An http2Front speaks HTTP/2 with TLS for a handler.
type http2Front struct {
	*httptest.Server
	authority     string // file of the certificate
	connections   atomic.Int32
	leastProtocol atomic.Int32

	mu     sync.Mutex
	silent []*silentConn
}

func startHTTP2(t *testing.T, handler http.Handler) *http2Front {
	t.Helper()
	f := &http2Front{}
	f.leastProtocol.Store(2)
	f.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if least := f.leastProtocol.Load(); int32(r.ProtoMajor) < least {
			f.leastProtocol.Store(int32(r.ProtoMajor))
		}
		handler.ServeHTTP(w, r)
	}))
	f.Listener = &silentListener{f.Listener, f}
	f.EnableHTTP2 = true
	f.StartTLS()
	t.Cleanup(func() { f.CloseClientConnections(); f.Close() })
	f.authority = filepath.Join(t.TempDir(), "front.pem")
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.Certificate().Raw})
	require.NoError(t, os.WriteFile(f.authority, certificate, 0o600))
	return f
}

// Host is the front's "127.0.0.1:port".
func (f *http2Front) Host() string { return f.Listener.Addr().String() }

// silence lets nothing through any more of the connections that there are.
func (f *http2Front) silence() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.silent {
		c.silent.Store(true)
	}
}

type silentListener struct {
	net.Listener
	front *http2Front
}

func (l *silentListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.front.connections.Add(1)
	c := &silentConn{Conn: conn}
	l.front.mu.Lock()
	defer l.front.mu.Unlock()
	l.front.silent = append(l.front.silent, c)
	return c, nil
}

// A silentConn takes what is written and says nothing, once it is silent.
type silentConn struct {
	net.Conn
	silent atomic.Bool
}

func (c *silentConn) Write(p []byte) (int, error) {
	if c.silent.Load() {
		return len(p), nil
	}
	return c.Conn.Write(p)
}
