package nydusimage

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
)

// clientCertificate makes a client's certificate, signed by itself.
func clientCertificate(t *testing.T, name string) (certificate, key string, pool *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	require.NoError(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	certificate = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	pool = x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM([]byte(certificate)))
	return certificate, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})), pool
}

// startDemanding runs a TLS front of a handler that sees client certificates.
func startDemanding(t *testing.T, demand tls.ClientAuthType, pool *x509.CertPool, handler http.Handler) (_ *httptest.Server, ca string) {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.TLS = &tls.Config{ClientAuth: demand, ClientCAs: pool}
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // the refusals are wanted
	s.StartTLS()
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return s, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
}

func TestClientCertificates(t *testing.T) {
	certificate, key, pool := clientCertificate(t, "client")
	registry := testregistry.Start(t)
	testimage.Push(t, registry.Host()+"/image:tag", fixture(t))
	backend := must(url.Parse(registry.URL()))
	front, ca := startDemanding(t, tls.RequireAndVerifyClientCert, pool,
		&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(backend) }})
	host := front.Listener.Addr().String()
	target := host + "/image:tag"
	base := http.DefaultTransport.(*http.Transport).Clone()
	defer base.CloseIdleConnections()

	first, second := t.TempDir(), t.TempDir()
	set(t, &certificateFolders, []string{first, second})
	unchanged, err := WithHostCertificates(base, host)
	require.NoError(t, err)
	assert.Same(t, base, unchanged, "where nothing is kept")
	mustFail(t, target, Options{Transport: base}, nil)

	folder := filepath.Join(second, host)
	write(t, filepath.Join(folder, "ca.crt"), ca, 0o644)
	withCA, err := WithHostCertificates(base, host)
	require.NoError(t, err)
	mustFail(t, target, Options{Transport: withCA}, nil)

	write(t, filepath.Join(folder, "client.cert"), certificate, 0o644)
	_, err = WithHostCertificates(base, host)
	assert.ErrorContains(t, err, "client.cert and its key")
	write(t, filepath.Join(folder, "client.key"), key, 0o600)
	write(t, filepath.Join(folder, "README"), "not a certificate", 0o644)
	own, err := WithHostCertificates(base, host)
	require.NoError(t, err)
	mustOpen(t, target, Options{Transport: own})
	_, err = WithHostCertificates(base, "registry.test", host)
	require.NoError(t, err, "hosts without")

	// Another host that would take any certificate gets none, though its CA is
	// known to base.
	var offered int
	other, _ := startDemanding(t, tls.RequestClientCert, nil, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		offered += len(r.TLS.PeerCertificates)
	}))
	trusting := base.Clone()
	trusting.TLSClientConfig = &tls.Config{RootCAs: x509.NewCertPool()}
	trusting.TLSClientConfig.RootCAs.AddCert(other.Certificate())
	both, err := WithHostCertificates(trusting, host)
	require.NoError(t, err)
	mustOpen(t, target, Options{Transport: both})
	resp, err := (&http.Client{Transport: both}).Get(other.URL)
	require.NoError(t, err)
	resp.Body.Close()
	assert.Zero(t, offered, "certificates offered to another host")
	assert.Empty(t, trusting.TLSClientConfig.Certificates)

	// The first folder that there is for a host counts, as with podman.
	require.NoError(t, os.MkdirAll(filepath.Join(first, host), 0o755))
	none, err := WithHostCertificates(base, host)
	require.NoError(t, err)
	assert.Same(t, base, none)
}

func TestHostCertificatesErrors(t *testing.T) {
	parent := t.TempDir()
	set(t, &certificateFolders, []string{parent})
	write(t, filepath.Join(parent, "garbage.test", "ca.crt"), "no PEM", 0o644)
	write(t, filepath.Join(parent, "file.test"), "no folder", 0o644)
	write(t, filepath.Join(parent, "outside.crt"), "no PEM", 0o644)
	for host, says := range map[string]string{
		"garbage.test": "holds no certificate in PEM",
		"file.test":    "not a directory",
		"..":           "is no host",
		"":             "is no host",
		"a/../..":      "is no host",
	} {
		_, err := WithHostCertificates(&http.Transport{}, host)
		assert.ErrorContains(t, err, says)
	}
}

func copyAll(to io.Writer, from io.Reader) { _, _ = io.Copy(to, from) }
