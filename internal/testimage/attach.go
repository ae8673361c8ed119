package testimage

import (
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Attach pushes a document as an OCI referrer of what ref names. Where the registry has no referrers API, it goes into
// the index with the fall-back tag sha256-<digest>.
func Attach(t testing.TB, ref string, mediaType types.MediaType, document []byte) {
	t.Helper()
	parsed, err := name.ParseReference(ref)
	if err != nil {
		t.Fatalf("attach: %v", err)
	}
	subject, err := remote.Head(parsed)
	if err != nil {
		t.Fatalf("attach to %s: %v", ref, err)
	}
	img := mutate.MediaType(mutate.ConfigMediaType(empty.Image, mediaType), types.OCIManifestSchema1)
	img, err = mutate.AppendLayers(img, static.NewLayer(document, mediaType))
	if err != nil {
		t.Fatalf("attach to %s: %v", ref, err)
	}
	referrer := mutate.Subject(img, v1.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size}).(v1.Image)
	digest, err := referrer.Digest()
	if err != nil {
		t.Fatalf("attach to %s: %v", ref, err)
	}
	if err := remote.Write(parsed.Context().Digest(digest.String()), referrer); err != nil {
		t.Fatalf("attach to %s: %v", ref, err)
	}
}
