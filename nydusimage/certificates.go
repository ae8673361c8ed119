package nydusimage

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// certificateFolders are where podman and docker keep, in a folder named
// "host" or "host:port", what a registry's TLS needs: *.crt are CAs, *.cert and
// *.key of the same name a client certificate and its key. As podman does, the
// first folder that there is for a host is read, and no other.
var certificateFolders = func() []string {
	folders := []string{"/etc/containers/certs.d", "/etc/docker/certs.d"}
	if home, err := os.UserHomeDir(); err == nil {
		folders = append([]string{
			filepath.Join(home, ".config/containers/certs.d"),
			filepath.Join(home, ".config/docker/certs.d"),
		}, folders...)
	}
	return folders
}()

// WithHostCertificates returns a transport that speaks to each of the given
// hosts ("registry.example" or "registry.example:5000", as references spell
// it) with the client certificates and CAs that docker and podman keep for that
// host, and to all others as base does: a certificate is offered to its own
// host only. Where there is none, it is base itself.
func WithHostCertificates(base *http.Transport, hosts ...string) (http.RoundTripper, error) {
	own := make(map[string]http.RoundTripper)
	for _, host := range hosts {
		config, err := hostTLS(base.TLSClientConfig, host)
		if err != nil {
			return nil, fmt.Errorf("certificates for %s: %w", host, err)
		}
		if config != nil {
			transport := base.Clone()
			transport.TLSClientConfig = config
			own[host] = transport
		}
	}
	if len(own) == 0 {
		return base, nil
	}
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		if transport, ok := own[req.URL.Host]; ok {
			return transport.RoundTrip(req)
		}
		return base.RoundTrip(req)
	}), nil
}

// hostTLS returns base with what is kept for the host; nil if that is nothing.
func hostTLS(base *tls.Config, host string) (*tls.Config, error) {
	folder, files, err := hostCertificates(host)
	if err != nil || len(files) == 0 {
		return nil, err
	}
	config := &tls.Config{}
	if base != nil {
		config = base.Clone()
	}
	for _, file := range files {
		path := filepath.Join(folder, file.Name())
		switch filepath.Ext(path) {
		case ".crt":
			pem, err := os.ReadFile(path)
			if err != nil {
				return nil, err
			}
			if config.RootCAs, err = roots(config.RootCAs); err != nil {
				return nil, err
			}
			if !config.RootCAs.AppendCertsFromPEM(pem) {
				return nil, fmt.Errorf("%s holds no certificate in PEM", path)
			}
		case ".cert":
			pair, err := tls.LoadX509KeyPair(path, strings.TrimSuffix(path, ".cert")+".key")
			if err != nil {
				return nil, fmt.Errorf("%s and its key: %w", path, err)
			}
			config.Certificates = append(config.Certificates, pair)
		}
	}
	return config, nil
}

// roots returns a pool to add to: a copy of base, or the system's.
func roots(base *x509.CertPool) (*x509.CertPool, error) {
	if base != nil {
		return base.Clone(), nil
	}
	return x509.SystemCertPool()
}

// hostCertificates lists the first folder that there is for the host.
func hostCertificates(host string) (folder string, files []fs.DirEntry, err error) {
	if host == "" || host == "." || host == ".." || strings.ContainsAny(host, `/\`) {
		return "", nil, fmt.Errorf("%q is no host", host)
	}
	for _, parent := range certificateFolders {
		folder = filepath.Join(parent, host)
		files, err = os.ReadDir(folder)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return folder, files, err
		}
	}
	return "", nil, nil
}
