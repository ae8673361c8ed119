package nydusimage

import (
	"context"
	"errors"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// maxReferrers is how many of an image's referrers are looked at: signatures
// and documents are among them, and anybody who can push adds to them.
const maxReferrers = 64

// errNoTwin says that an image has no Nydus twin.
var errNoTwin = errors.New("it has no Nydus twin among its referrers")

// twin finds the Nydus image that names the given image as its subject: by the
// registry's referrers API or, where it has none, the tag that stands in for
// it. Whoever can push to the repository can make one.
func twin(ctx context.Context, where store, of v1.Hash) (*document, error) {
	r, ok := where.(*registry)
	if !ok {
		return nil, errNoTwin
	}
	index, err := remote.Referrers(r.repository.Digest(of.String()), remote.WithContext(ctx), remote.WithTransport(r.transport))
	if err != nil {
		return nil, fmt.Errorf("ask for the referrers of %s: %w", of, classify(r.secrets.hide(err)))
	}
	referrers, err := index.IndexManifest()
	if err != nil {
		return nil, fmt.Errorf("referrers of %s: %w: %w", of, ErrInvalid, err)
	}
	looked := 0
	for _, d := range referrers.Manifests {
		if !mayBeTwin(d) {
			continue
		}
		if looked++; looked > maxReferrers {
			break
		}
		doc, err := r.child(ctx, d)
		if err != nil {
			return nil, err
		}
		manifest, err := parseManifest(doc)
		if err != nil {
			continue // somebody else's document
		}
		if notNydus(manifest) == "" && manifest.Subject != nil && manifest.Subject.Digest == of {
			return doc, nil
		}
	}
	return nil, errNoTwin
}

// mayBeTwin leaves out what is clearly another kind of document. Converters
// that do not set an artifact type leave that of the config.
func mayBeTwin(d v1.Descriptor) bool {
	if !d.MediaType.IsImage() {
		return false
	}
	switch d.ArtifactType {
	case "", artifactTypeNydus, "application/vnd.nydus.image.config.v1+json",
		"application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json":
		return true
	}
	return false
}
