package artifact

import (
	"context"
	"errors"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/aquasecurity/trivy/pkg/cache"
	"github.com/aquasecurity/trivy/pkg/fanal/artifact"
	"github.com/aquasecurity/trivy/pkg/fanal/artifact/image"
	ftypes "github.com/aquasecurity/trivy/pkg/fanal/types"
)

// attachedSBOM looks for an SBOM of the image where --sbom-sources says, which
// is then scanned instead of the image. Trivy's image artifact does that before
// it looks at any layer, so it is given an image without layers.
func (a *Artifact) attachedSBOM(ctx context.Context) (_ artifact.Reference, found bool, err error) {
	if len(a.option.SBOMSources) == 0 || a.image.Reference == nil {
		return artifact.Reference{}, false, nil
	}
	trivy, err := image.NewArtifact(a.named(), withoutImages{a.cache}, a.option)
	if err != nil {
		return artifact.Reference{}, false, fmt.Errorf("look for an SBOM of the image: %w", err)
	}
	reference, err := trivy.Inspect(ctx)
	if err != nil {
		return artifact.Reference{}, false, fmt.Errorf("look for an SBOM of the image: %w", err)
	}
	if reference.Type == ftypes.TypeContainerImage {
		return artifact.Reference{}, false, nil
	}
	a.evidence = Evidence{
		ArtifactType: string(Type), SBOM: string(reference.Type),
		Unverified: []Unverified{{What: unverifiedDocument, Reason: "the manifest does not name what is attached to the image"}},
	}
	return reference, true, nil
}

// named is the image as far as a search for its SBOM looks at it.
func (a *Artifact) named() namedImage {
	tags, digests := Repository(a.image.Reference, a.image.Descriptor.Digest)
	return namedImage{name: a.our.Name, id: keyPrefix + a.image.Digest.String(), tags: tags, digests: digests}
}

type namedImage struct {
	v1.Image      // nil: there are no layers to be asked for
	name, id      string
	tags, digests []string
}

func (i namedImage) Name() string                        { return i.name }
func (i namedImage) ID() (string, error)                 { return i.id, nil }
func (i namedImage) RepoTags() []string                  { return i.tags }
func (i namedImage) RepoDigests() []string               { return i.digests }
func (i namedImage) ConfigFile() (*v1.ConfigFile, error) { return &v1.ConfigFile{}, nil }

func (i namedImage) LayerByDiffID(v1.Hash) (v1.Layer, error) {
	return nil, errors.New("image without layers")
}

// withoutImages is a cache that has every image, so that the one without layers
// is not put into it.
type withoutImages struct{ cache.ArtifactCache }

func (c withoutImages) MissingBlobs(ctx context.Context, id string, blobs []string) (bool, []string, error) {
	if len(blobs) == 0 {
		return false, nil, nil
	}
	return c.ArtifactCache.MissingBlobs(ctx, id, blobs)
}
