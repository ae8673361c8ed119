package nydusimage

import (
	"context"
	"errors"
	"fmt"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// maxListed bounds the images whose manifests [Platforms] reads: indexes of today have
// a dozen platforms.
const maxListed = 1000

// PlatformImages are the images that a target has for a platform.
type PlatformImages struct {
	// Platform is as the index spells it (arm is not arm/v7), without os.features, which
	// old converters use to mark Nydus images. Of a single image it is the config's.
	Platform v1.Platform
	// OCI and Nydus are the manifests, for Options.Manifest, each once.
	OCI, Nydus []v1.Descriptor
	// Err, if not nil, says why not all of them are known: a manifest could not be read.
	Err error
}

// Platforms lists the images that a target names: those in an index and in the indexes
// inside of it, by their platforms, in their order, at least one; or the single image.
// Every manifest is read: marks in an index are not what tells the kind.
func Platforms(ctx context.Context, target string, o Options) ([]PlatformImages, error) {
	where, doc, _, err := find(ctx, target, &o)
	if err != nil {
		return nil, err
	}
	if !doc.MediaType.IsIndex() {
		return singlePlatform(ctx, where, doc)
	}
	l := platformList{where: where, read: make(map[v1.Hash]bool)}
	every := func(*v1.Descriptor) bool { return true }
	err = walkIndexes(ctx, where, doc, every, func(index *v1.IndexManifest) (bool, error) {
		for _, d := range index.Manifests {
			if !isImage(&d) {
				continue
			}
			if err := l.add(ctx, d); err != nil {
				return false, fmt.Errorf("index %s: %w", doc.Digest, err)
			}
		}
		return false, nil
	})
	if err == nil && len(l.platforms) == 0 {
		err = fmt.Errorf("index %s lists no image: %w", doc.Digest, ErrPlatform)
	}
	return l.platforms, err
}

// isImage says whether an entry of an index is an image, not an index or an attestation.
func isImage(d *v1.Descriptor) bool {
	return d.MediaType.IsImage() && platformOf(d).Architecture != "unknown"
}

// A platformList is the list that [Platforms] makes.
type platformList struct {
	where     store
	asked     int              // manifests
	read      map[v1.Hash]bool // those that could be read, and whether they are Nydus
	platforms []PlatformImages
}

// add adds an image of an index. Its error is that of the list.
func (l *platformList) add(ctx context.Context, d v1.Descriptor) error {
	p := l.platform(platformOf(&d))
	nydus, known := l.read[d.Digest]
	if !known {
		if l.asked++; l.asked > maxListed {
			return fmt.Errorf("it lists more than %d images: %w", maxListed, ErrInvalid)
		}
		var err error
		nydus, err = isNydus(ctx, l.where, d)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			p.Err = errors.Join(p.Err, err)
			return nil
		}
		l.read[d.Digest] = nydus
	}
	kind := &p.OCI
	if nydus {
		kind = &p.Nydus
	}
	if !slices.ContainsFunc(*kind, func(other v1.Descriptor) bool { return other.Digest == d.Digest }) {
		*kind = append(*kind, d)
	}
	return nil
}

// platform finds the images of a platform, in the list until the next call.
func (l *platformList) platform(p v1.Platform) *PlatformImages {
	p.OSFeatures = nil
	for i := range l.platforms {
		if l.platforms[i].Platform.Equals(p) {
			return &l.platforms[i]
		}
	}
	l.platforms = append(l.platforms, PlatformImages{Platform: p})
	return &l.platforms[len(l.platforms)-1]
}

// singlePlatform lists an image that is in no index.
func singlePlatform(ctx context.Context, where store, doc *document) ([]PlatformImages, error) {
	manifest, err := parseManifest(doc)
	if err != nil {
		return nil, err
	}
	raw, err := readBlob(ctx, where, manifest.Config, maxConfig)
	if err != nil {
		return nil, fmt.Errorf("read the config: %w", err)
	}
	config, err := parse(raw, v1.ParseConfigFile)
	if err != nil {
		return nil, fmt.Errorf("config %s: %w", manifest.Config.Digest, err)
	}
	image := PlatformImages{Platform: ConfigPlatform(config)}
	if notNydus(manifest) == "" {
		image.Nydus = []v1.Descriptor{doc.Descriptor}
	} else {
		image.OCI = []v1.Descriptor{doc.Descriptor}
	}
	return []PlatformImages{image}, nil
}

// ConfigPlatform is the platform that a config names; empty where it names none.
func ConfigPlatform(config *v1.ConfigFile) v1.Platform {
	return v1.Platform{OS: config.OS, Architecture: config.Architecture, Variant: config.Variant, OSVersion: config.OSVersion}
}
