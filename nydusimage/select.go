package nydusimage

import (
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
	if o.Manifest != nil {
		return where.child(ctx, *o.Manifest)
	}
	want := wanted(defaultPlatform)
	if o.Platform != nil {
		want = wanted(*o.Platform)
	}
	var there []string // the platforms that there are
	var chosen *v1.Descriptor
	err := walkIndexes(ctx, where, doc, want.mayBeIn, func(index *v1.IndexManifest) (done bool, err error) {
		c := choose(index, want)
		for _, platform := range c.platforms {
			if !slices.Contains(there, platform) {
				there = append(there, platform)
			}
		}
		if err := c.peek(ctx, where); err != nil {
			return false, err
		}
		if chosen = c.preferred(prefer); chosen != nil && prefer == preferNydus && c.nydus != nil && c.other != nil {
			o.notice("%s has an OCI and a Nydus image for %s: reading the Nydus image %s, not the OCI image %s",
				target, platformOf(c.other), c.nydus.Digest, c.other.Digest)
		}
		return chosen != nil, nil
	})
	if err != nil {
		return nil, err
	}
	if chosen == nil {
		return nil, fmt.Errorf("index %s has no image for %s, it has %s: %w", doc.Digest, spell(v1.Platform(want)), strings.Join(there, ", "), ErrPlatform)
	}
	return where.child(ctx, *chosen)
}

// walkIndexes calls visit for an index and for those inside of it that enter lets in,
// the outer ones first, until it is done.
func walkIndexes(ctx context.Context, where store, doc *document, enter func(*v1.Descriptor) bool, visit func(*v1.IndexManifest) (done bool, err error)) error {
	queue := []*document{doc}
	for read := 0; read < len(queue); read++ {
		index, err := parse(queue[read].raw, v1.ParseIndexManifest)
		if err != nil {
			return fmt.Errorf("index %s: %w", queue[read].Digest, err)
		}
		if done, err := visit(index); done || err != nil {
			return err
		}
		for n := range index.Manifests {
			d := &index.Manifests[n]
			if !d.MediaType.IsIndex() || !enter(d) {
				continue
			}
			if len(queue) > maxNested {
				return fmt.Errorf("index %s holds more than %d indexes: %w", doc.Digest, maxNested, ErrInvalid)
			}
			inner, err := where.child(ctx, *d)
			if err != nil {
				return fmt.Errorf("index inside index %s: %w", queue[read].Digest, err)
			}
			queue = append(queue, inner)
		}
	}
	return nil
}

// wanted is the platform that is looked for.
type wanted v1.Platform

// mayBeIn says whether an index in an index may have it.
func (w wanted) mayBeIn(d *v1.Descriptor) bool { return d.Platform == nil || w.is(platformOf(d)) }

// is says whether an image's platform is the wanted one. What is not asked for, a
// variant or any OS, is not compared; nor are ever os.features, which old converters
// use to mark Nydus images. A variant is compared as it is spelled, as Trivy does:
// arm64 is not arm64/v8.
func (w wanted) is(have v1.Platform) bool {
	same := func(have, want string) bool { return have == want || want == "" }
	return same(have.OS, w.OS) && have.Architecture == w.Architecture && same(have.Variant, w.Variant) && same(have.OSVersion, w.OSVersion)
}

// choices are what an index has for a platform.
type choices struct {
	nydus, other *v1.Descriptor // nil where there is none; see peek
	unmarked     []*v1.Descriptor
	platforms    []string // of all of the index's own manifests
}

func choose(index *v1.IndexManifest, want wanted) choices {
	var c choices
	for n := range index.Manifests {
		d := &index.Manifests[n]
		if !isImage(d) {
			continue
		}
		platform := platformOf(d)
		c.platforms = append(c.platforms, platform.String())
		switch {
		case !want.is(platform):
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
		nydus, err := isNydus(ctx, where, *d)
		if err != nil {
			return err
		}
		if nydus {
			c.nydus = first(c.nydus, d)
		} else {
			c.other = first(c.other, d)
		}
	}
	return nil
}

// isNydus reads a manifest of an index and says whether it is a Nydus image's.
func isNydus(ctx context.Context, where store, d v1.Descriptor) (bool, error) {
	doc, err := where.child(ctx, d)
	if err != nil {
		return false, err
	}
	manifest, err := parseManifest(doc)
	return err == nil && notNydus(manifest) == "", err
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
