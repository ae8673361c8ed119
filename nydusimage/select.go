package nydusimage

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

const (
	// maxNested is how many indexes inside an index are read.
	maxNested = 16
	// maxPeeked is how many manifests of one platform are looked at where no mark
	// tells what they are.
	maxPeeked = 8
)

// A preference says which manifest of a platform is taken from an index that
// has both.
type preference bool

const (
	preferNydus preference = true
	preferOCI   preference = false
)

// defaultPlatform is that of an entry that names none, and the one that is wanted
// where the user names none, as in go-containerregistry.
var defaultPlatform = v1.Platform{OS: "linux", Architecture: "amd64"}

// selectManifest returns doc if it is a manifest; from an index the manifest of
// the platform that is preferred or, where there is none, its other one. Indexes
// inside the index are searched after its own manifests.
func selectManifest(ctx context.Context, where store, doc *document, target string, o *Options, prefer preference) (*document, error) {
	if !doc.MediaType.IsIndex() {
		return doc, nil
	}
	want := defaultPlatform
	if o.Platform != nil {
		want = *o.Platform
	}
	var there []string // the platforms that there are
	queue := []*document{doc}
	for read := 0; read < len(queue); read++ {
		index, err := v1.ParseIndexManifest(bytes.NewReader(queue[read].raw))
		if err != nil {
			return nil, fmt.Errorf("index %s: %w: %w", queue[read].Digest, ErrInvalid, err)
		}
		c := choose(index, want)
		for _, platform := range c.platforms {
			if !slices.Contains(there, platform) {
				there = append(there, platform)
			}
		}
		if err := c.peek(ctx, where); err != nil {
			return nil, err
		}
		if d := c.preferred(prefer); d != nil {
			if prefer == preferNydus && c.nydus != nil && c.other != nil {
				o.notice("%s has an OCI and a Nydus image for %s: reading the Nydus image %s, not the OCI image %s",
					target, platformOf(c.other), c.nydus.Digest, c.other.Digest)
			}
			return where.child(ctx, *d)
		}
		for _, d := range c.nested {
			if len(queue) > maxNested {
				return nil, fmt.Errorf("index %s holds more than %d indexes: %w", doc.Digest, maxNested, ErrInvalid)
			}
			inner, err := where.child(ctx, d)
			if err != nil {
				return nil, fmt.Errorf("index inside index %s: %w", queue[read].Digest, err)
			}
			queue = append(queue, inner)
		}
	}
	return nil, fmt.Errorf("index %s has no image for %s, it has %s: %w", doc.Digest, spell(want), strings.Join(there, ", "), ErrPlatform)
}

// choices are what an index has for a platform.
type choices struct {
	nydus, other *v1.Descriptor // nil where there is none; see peek
	unmarked     []*v1.Descriptor
	nested       []v1.Descriptor // indexes that may have it
	platforms    []string        // of all of the index's own manifests
}

func choose(index *v1.IndexManifest, want v1.Platform) choices {
	var c choices
	for n := range index.Manifests {
		d := &index.Manifests[n]
		platform := platformOf(d)
		if d.MediaType.IsIndex() && (d.Platform == nil || satisfies(platform, want)) {
			c.nested = append(c.nested, *d)
		}
		if !d.MediaType.IsImage() || platform.Architecture == "unknown" {
			continue // indexes, attestations
		}
		c.platforms = append(c.platforms, platform.String())
		switch {
		case !satisfies(platform, want):
		case markedNydus(d):
			c.nydus = first(c.nydus, d)
		default:
			c.unmarked = append(c.unmarked, d)
		}
	}
	return c
}

// peek finds out what the manifests without a mark are: where there is one, it is
// taken for an OCI image until it is read; several are looked at.
func (c *choices) peek(ctx context.Context, where store) error {
	if len(c.unmarked) == 1 {
		c.other = c.unmarked[0]
		return nil
	}
	for _, d := range c.unmarked[:min(len(c.unmarked), maxPeeked)] {
		doc, err := where.child(ctx, *d)
		if err != nil {
			return err
		}
		manifest, err := parseManifest(doc)
		if err != nil {
			return err
		}
		if notNydus(manifest) == "" {
			c.nydus = first(c.nydus, d)
		} else {
			c.other = first(c.other, d)
		}
	}
	return nil
}

func first(found, next *v1.Descriptor) *v1.Descriptor {
	if found != nil {
		return found
	}
	return next
}

// preferred returns nil where there is no manifest at all.
func (c *choices) preferred(prefer preference) *v1.Descriptor {
	if prefer == preferOCI {
		return first(c.other, c.nydus)
	}
	return first(c.nydus, c.other)
}

// markedNydus says whether an index marks a manifest as Nydus: by the artifact
// type, or the feature that converters set before.
func markedNydus(d *v1.Descriptor) bool {
	return d.ArtifactType == artifactTypeNydus || slices.Contains(platformOf(d).OSFeatures, featureNydus)
}

func platformOf(d *v1.Descriptor) v1.Platform {
	if d.Platform == nil {
		return defaultPlatform
	}
	return *d.Platform
}

// spell writes a platform also where any OS will do.
func spell(p v1.Platform) string {
	if p.OS == "" {
		p.OS = "*"
	}
	return p.String()
}

// satisfies says whether an image's platform is the wanted one. What is not
// asked for, a variant or any OS, is not compared; nor are os.features, which
// old converters use to mark Nydus images. A variant is compared as it is spelled,
// as Trivy does: arm64 is not arm64/v8.
func satisfies(have, want v1.Platform) bool {
	return (want.OS == "" || have.OS == want.OS) &&
		have.Architecture == want.Architecture &&
		(want.Variant == "" || have.Variant == want.Variant) &&
		(want.OSVersion == "" || have.OSVersion == want.OSVersion)
}
