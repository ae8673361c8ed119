package nydusimage

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"

	"github.com/google/go-containerregistry/pkg/authn"
)

// ErrLogin is wrapped by errors about credentials that cannot be handed on.
var ErrLogin = errors.New("login without user name and password")

// An Access is how the registry of an image is spoken to, for another program
// that reads the image's blobs.
type Access struct {
	Scheme     string // http or https, as the registry answered
	Host       string // the one that gave the image: it may be a mirror
	Repository string
	// Username and Password are what the registry accepted; empty where it asks
	// for none.
	Username, Password string
}

// Access returns how the image's registry is spoken to, nil for an image from a
// path. A login by token only gives an error that wraps [ErrLogin].
func (i *Image) Access(ctx context.Context) (*Access, error) {
	r, ok := i.store.(*registry)
	if !ok {
		return nil, nil
	}
	a := &Access{Scheme: "https", Host: r.repository.RegistryStr(), Repository: r.repository.RepositoryStr()}
	if scheme, ok := r.scheme.Load().(string); ok {
		a.Scheme = scheme
	}
	login, err := authn.Authorization(ctx, r.auth)
	if err != nil {
		return nil, fmt.Errorf("credentials for %s: %w", a.Host, err)
	}
	if login.IdentityToken != "" || login.RegistryToken != "" {
		return nil, fmt.Errorf("%s was logged in to with a token: %w", a.Host, ErrLogin)
	}
	a.Username, a.Password = login.Username, login.Password
	return a, nil
}

// noteScheme keeps the scheme by which a host last answered.
func noteScheme(inner http.RoundTripper, host string, scheme *atomic.Value) http.RoundTripper {
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		resp, err := inner.RoundTrip(req)
		if err == nil && req.URL.Host == host {
			scheme.Store(req.URL.Scheme)
		}
		return resp, err
	})
}

// HostCertificates returns the folder in which docker or podman keep
// certificates for a host, "" if there is none.
func HostCertificates(host string) (string, error) {
	folder, files, err := hostCertificates(host)
	if err != nil || len(files) == 0 {
		return "", err
	}
	return folder, nil
}
