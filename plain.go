package main

import (
	"context"
	"fmt"

	"github.com/aquasecurity/trivy/pkg/cache"
	tartifact "github.com/aquasecurity/trivy/pkg/commands/artifact"
	fartifact "github.com/aquasecurity/trivy/pkg/fanal/artifact"
	artimage "github.com/aquasecurity/trivy/pkg/fanal/artifact/image"
	"github.com/aquasecurity/trivy/pkg/fanal/image"
	ftypes "github.com/aquasecurity/trivy/pkg/fanal/types"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/artifact"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
)

// plainArtifact is Trivy's own artifact, for an image that is not Nydus: the
// very one that was resolved, or with found nil what the daemons that
// --image-src names have.
func (s *service) plainArtifact(ctx context.Context, config tartifact.ScannerConfig, found *nydusimage.NotNydusError) newArtifact {
	return func(c cache.ArtifactCache) (fartifact.Artifact, func(), error) {
		img, cleanup, err := s.openPlain(ctx, config, found)
		if err != nil {
			return nil, nil, fmt.Errorf("open %s: %w", config.Target, err)
		}
		option := config.ArtifactOption
		if option.MisconfScannerOption, err = s.compileChecks(); err != nil {
			cleanup()
			return nil, nil, err
		}
		art, err := artimage.NewArtifact(img, c, option)
		if err != nil {
			cleanup()
			return nil, nil, err
		}
		return art, cleanup, nil
	}
}

func (s *service) openPlain(ctx context.Context, config tartifact.ScannerConfig, found *nydusimage.NotNydusError) (ftypes.Image, func(), error) {
	option := config.ArtifactOption.ImageOption
	switch {
	case found == nil:
		return image.NewContainerImage(ctx, config.Target, option)
	case found.Reference == nil:
		img, err := image.NewArchiveImage(config.Target)
		return img, func() {}, err
	}
	repository := found.Reference.Context()
	option.ImageSources = ftypes.ImageSources{ftypes.RemoteImageSource}
	option.RegistryOptions.Insecure = s.ours.plainHTTP // here it allows plain HTTP, nothing else
	img, cleanup, err := image.NewContainerImage(s.guard(ctx, repository.RegistryStr()), repository.Digest(found.Digest.String()).Name(), option)
	if err != nil {
		return nil, cleanup, err
	}
	return resolvedImage{Image: img, target: config.Target, found: found}, cleanup, nil
}

// A resolvedImage is an image that was opened by the digest that its reference
// resolved to, and goes by the reference.
type resolvedImage struct {
	ftypes.Image
	target string
	found  *nydusimage.NotNydusError
}

func (i resolvedImage) Name() string { return i.target }

func (i resolvedImage) RepoTags() []string {
	tags, _ := artifact.Repository(i.found.Reference, i.found.Descriptor.Digest)
	return tags
}

func (i resolvedImage) RepoDigests() []string {
	_, digests := artifact.Repository(i.found.Reference, i.found.Descriptor.Digest)
	return digests
}
