package nydusimage

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/blob"
)

// A registry is a [store]: one repository on one host, logged in.
type registry struct {
	repository name.Repository
	transport  http.RoundTripper // *transport.Wrapper: authenticated
	blobs      *blob.Server
	// What it was logged in with, for Access.
	auth    authn.Authenticator
	scheme  *atomic.Value // of the host's last answer
	secrets *secrets
}

// openRegistry resolves a reference on its mirrors and its own host, in that
// order, with each of the credentials there are for the host, until one gives
// the manifest.
func openRegistry(ctx context.Context, reference name.Reference, o *Options) (*registry, *document, error) {
	hosts, err := mirrors(reference, o)
	if err != nil {
		return nil, nil, err
	}
	var failures []error
	for _, candidate := range append(hosts, reference) {
		credentials, err := credentialsFor(ctx, candidate, reference, o)
		if err != nil {
			return nil, nil, fmt.Errorf("credentials for %s: %w", candidate.Context().RegistryStr(), err)
		}
		r, doc, err := resolve(ctx, candidate, credentials, o)
		if err == nil {
			if candidate != reference {
				o.notice("reading %s from its mirror %s", reference, candidate.Context().RegistryStr())
			}
			return r, doc, nil
		}
		if ctx.Err() != nil {
			var waiting *blob.WaitError
			if errors.As(err, &waiting) {
				return nil, nil, waiting
			}
			return nil, nil, context.Cause(ctx)
		}
		failures = append(failures, err)
	}
	return nil, nil, fmt.Errorf("resolve %s: %w", reference, errors.Join(failures...))
}

// resolve reads the manifest that a reference names on its host, with the first
// of the credentials that the host accepts. What is no matter of credentials
// ends it.
func resolve(ctx context.Context, reference name.Reference, credentials []authn.Authenticator, o *Options) (*registry, *document, error) {
	var missing, failures error
	for _, auth := range credentials {
		r, err := login(ctx, reference.Context(), auth, o)
		if err == nil {
			var doc *document
			if doc, err = r.manifest(ctx, reference); err == nil {
				return r, doc, nil
			}
		}
		err = fmt.Errorf("%s: %w", reference.Context().RegistryStr(), classify(err))
		failures = errors.Join(failures, err)
		if errors.Is(err, ErrNotFound) {
			missing = err // some registries say so where the credentials are not enough
		} else if !errors.Is(err, ErrUnauthorized) {
			return nil, nil, failures
		}
	}
	// That others of the credentials were refused does not matter where one was
	// let in.
	if missing != nil {
		return nil, nil, missing
	}
	return nil, nil, failures
}

// retry is a variable so that tests need not wait.
var retry = blob.Retry

// login pings the registry and, where it asks for that, gets a token.
func login(ctx context.Context, repository name.Repository, auth authn.Authenticator, o *Options) (*registry, error) {
	host := repository.Registry
	base := o.Transport
	if base == nil {
		base = http.DefaultTransport
	}
	if o.Traffic != nil {
		base = o.Traffic.Count(base)
	}
	scheme, told := new(atomic.Value), new(secrets)
	base = retry(Guard(told.watch(noteScheme(base, host.RegistryStr(), scheme)), o.PlainHTTP, host.RegistryStr()))
	authenticated, err := transport.NewWithContext(ctx, host, auth, base, []string{repository.Scope(transport.PullScope)})
	if err != nil {
		return nil, told.hide(err)
	}
	return &registry{
		repository: repository, transport: authenticated, auth: auth, scheme: scheme, secrets: told,
		blobs: blob.NewServer(told.quiet(authenticated), func(s string) { o.notice("%s", s) }, o.Limits.WithDefaults().Temp),
	}, nil
}

// manifest implements [store].
func (r *registry) manifest(ctx context.Context, reference name.Reference) (*document, error) {
	descriptor, err := remote.Get(reference, remote.WithContext(ctx), remote.WithTransport(r.transport))
	if err != nil {
		return nil, r.secrets.hide(err)
	}
	if descriptor.Size > maxManifest {
		return nil, fmt.Errorf("manifest of %d bytes is over the limit of %d: %w", descriptor.Size, maxManifest, ErrInvalid)
	}
	d := descriptor.Descriptor
	d.MediaType = mediaType(d.MediaType, descriptor.Manifest)
	return &document{Descriptor: d, raw: descriptor.Manifest}, nil
}

// child implements [store].
func (r *registry) child(ctx context.Context, d v1.Descriptor) (*document, error) {
	doc, err := r.manifest(ctx, r.repository.Digest(d.Digest.String()))
	if err != nil {
		return nil, fmt.Errorf("read manifest %s: %w", d.Digest, classify(err))
	}
	return doc, nil
}

// origin implements [store].
func (r *registry) origin() string { return r.repository.RegistryStr() }

// blob implements [store].
func (r *registry) blob(d v1.Descriptor) (blob.Source, error) {
	address := &url.URL{
		Scheme: r.repository.Scheme(),
		Host:   r.repository.RegistryStr(),
		Path:   fmt.Sprintf("/v2/%s/blobs/%s", r.repository.RepositoryStr(), d.Digest),
	}
	return r.blobs.Blob(address, d.Size), nil
}

// mirrors gives the references under which the mirrors of the reference's host
// have the image, as Trivy spells them (registry.mirrors in trivy.yaml).
func mirrors(reference name.Reference, o *Options) ([]name.Reference, error) {
	var references []name.Reference
	host := reference.Context().RegistryStr()
	for _, mirror := range o.Mirrors[host] {
		r, err := parseReference(strings.Replace(reference.Name(), host, mirror, 1), o)
		if err != nil {
			return nil, fmt.Errorf("mirror %s of %s: %w", mirror, host, err)
		}
		references = append(references, r)
	}
	return references, nil
}

// credentialsFor lists what may open a repository, best first. Those that the
// caller gave are for the host of the reference alone, never for a mirror.
func credentialsFor(ctx context.Context, candidate, reference name.Reference, o *Options) ([]authn.Authenticator, error) {
	var list []authn.Authenticator
	if candidate.Context().RegistryStr() == reference.Context().RegistryStr() {
		list = append(list, o.Credentials...)
		if o.Exclusive && len(list) > 0 {
			return list, nil
		}
	}
	keychain := o.Keychain
	if keychain == nil {
		keychain = authn.DefaultKeychain
	}
	// Without any credentials this gives anonymous access.
	stored, err := authn.Resolve(ctx, keychain, candidate.Context())
	if err != nil {
		return nil, err
	}
	return append(list, stored), nil
}

// classify wraps what a registry refused in one of this package's errors.
func classify(err error) error {
	var answer *transport.Error
	if !errors.As(err, &answer) {
		return err
	}
	switch answer.StatusCode {
	case http.StatusNotFound:
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("%w: %w", ErrUnauthorized, err)
	}
	return err
}
