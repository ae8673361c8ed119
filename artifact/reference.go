package artifact

import (
	"fmt"
	"strings"

	"github.com/docker/go-units"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/aquasecurity/trivy/pkg/fanal/artifact"
	tname "github.com/aquasecurity/trivy/pkg/fanal/image/name"
	ftypes "github.com/aquasecurity/trivy/pkg/fanal/types"
	"github.com/aquasecurity/trivy/pkg/types"
)

// reference describes the image to Trivy, with all the metadata that reports
// have of a container image.
func (a *Artifact) reference(r *record) artifact.Reference {
	img := a.image
	tags, digests := []string{}, []string{}
	if img.Reference != nil {
		tags, digests = Repository(img.Reference, img.Descriptor.Digest)
	}
	metadata := artifact.ImageMetadata{
		ID:          img.Manifest.Config.Digest.String(),
		DiffIDs:     r.DiffIDs,
		RepoTags:    tags,
		RepoDigests: digests,
		ConfigFile:  *img.Config,
	}
	if img.Reference != nil {
		metadata.Reference = tname.Reference{Reference: img.Reference}
	}
	return artifact.Reference{
		Name:          a.our.Name,
		Type:          ftypes.TypeContainerImage,
		ID:            r.ImageKey,
		BlobIDs:       r.Keys,
		ImageMetadata: metadata,
	}
}

// Repository spells an image's tag, if it has one, and its digest as Trivy does:
// without Docker Hub's host and "library/".
func Repository(reference name.Reference, digest v1.Hash) (tags, digests []string) {
	repository := reference.Context()
	spelled := strings.TrimPrefix(repository.RepositoryStr(), "library/")
	if host := repository.RegistryStr(); host != name.DefaultRegistry {
		spelled = host + "/" + repository.RepositoryStr()
	}
	tags = []string{}
	if tag, ok := reference.(name.Tag); ok {
		tags = append(tags, fmt.Sprintf("%s:%s", spelled, tag.TagStr()))
	}
	return tags, []string{fmt.Sprintf("%s@%s", spelled, digest)}
}

// checkSize refuses an image over --max-image-size: first by its blobs, then by
// what its files would take in a tar.
func (a *Artifact) checkSize(compressed, uncompressed int64) error {
	limit := a.option.ImageOption.MaxImageSize
	for _, size := range []struct {
		what  string
		bytes int64
	}{{"compressed image", compressed}, {"uncompressed layers", uncompressed}} {
		if limit != 0 && size.bytes > limit {
			return &types.UserError{Message: fmt.Sprintf("%s size %s exceeds maximum allowed size %s", size.what,
				units.HumanSizeWithPrecision(float64(size.bytes), 3), units.HumanSize(float64(limit)))}
		}
	}
	return nil
}
