package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/consistency"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
)

// A checkPlatform is a platform for which images are compared.
type checkPlatform struct {
	name string // "" where only one pair is compared
	// source and target are the images; nil where there is none and, without a name,
	// where the references and --platform say which.
	source, target *v1.Descriptor
	// missing, if not nil, says that a side has no image for the platform.
	missing *consistency.Difference
	err     error // why it is not known what the images are
}

// platforms lists the platforms to compare: with --all-platforms all that either
// side has an image for.
func (c *checker) platforms(ctx context.Context) ([]checkPlatform, error) {
	if !c.ours.allPlatforms {
		return []checkPlatform{{}}, nil
	}
	if c.options.Platform.Platform != nil {
		return nil, usage("--all-platforms and --platform exclude each other")
	}
	source, err := c.source.platforms(ctx)
	if err != nil {
		return nil, err
	}
	target := source
	if !c.alone {
		if target, err = c.target.platforms(ctx); err != nil {
			return nil, err
		}
	}
	sources, targets := withOCI(source), withNydus(target)
	if c.ours.twin {
		targets = twins(source)
	}
	switch {
	case len(targets) == 0:
		err = &nydusimage.NotNydusError{Target: c.target.name, Reason: "no manifest that it names is that of one"}
		if c.alone {
			err = nameNydus(err)
		}
		return nil, err
	case len(sources) > 0:
		return matchPlatforms(sources, targets), nil
	case !c.alone:
		return nil, fmt.Errorf("%s cannot be the source of a Nydus image: it is %w", c.source.name, nydusimage.ErrNydus)
	}
	// There is nothing to compare with: each Nydus image is checked alone.
	var list []checkPlatform
	for _, t := range targets {
		p := checkPlatform{name: t.Platform.String()}
		p.target, p.err = theOne(t.Nydus, t.Err)
		list = append(list, p)
	}
	return list, nil
}

// platforms lists the images of a side.
func (s *checkSide) platforms(ctx context.Context) ([]nydusimage.PlatformImages, error) {
	o, err := s.imageOptions(ctx, pick{})
	if err != nil {
		return nil, err
	}
	return nydusimage.Platforms(ctx, s.name, o)
}

// withOCI are the platforms for which there is, or may be, an OCI image.
func withOCI(all []nydusimage.PlatformImages) []nydusimage.PlatformImages {
	return slices.DeleteFunc(slices.Clone(all), func(p nydusimage.PlatformImages) bool { return len(p.OCI) == 0 && p.Err == nil })
}

// withNydus are those for which there is, or may be, a Nydus image.
func withNydus(all []nydusimage.PlatformImages) []nydusimage.PlatformImages {
	return slices.DeleteFunc(slices.Clone(all), func(p nydusimage.PlatformImages) bool { return len(p.Nydus) == 0 && p.Err == nil })
}

// twins are platforms whose Nydus images are yet to be looked for, where they are not
// there: opening the OCI image does.
func twins(all []nydusimage.PlatformImages) []nydusimage.PlatformImages {
	all = slices.Clone(all)
	for i := range all {
		if len(all[i].Nydus) == 0 {
			all[i].Nydus = all[i].OCI
		}
	}
	return all
}

// matchPlatforms pairs the OCI images of one list with the Nydus images of the other:
// first those whose platforms are spelled alike.
func matchPlatforms(sources, targets []nydusimage.PlatformImages) []checkPlatform {
	of := make([]int, len(sources)) // the target of each source, from 1
	paired := make([]bool, len(targets))
	for _, same := range []func(a, b v1.Platform) bool{v1.Platform.Equals, samePlatform} {
		for n, s := range sources {
			for i, t := range targets {
				if of[n] == 0 && !paired[i] && same(s.Platform, t.Platform) {
					paired[i], of[n] = true, i+1
				}
			}
		}
	}
	var list []checkPlatform
	for n, s := range sources {
		p := checkPlatform{name: s.Platform.String()}
		p.source, p.err = theOne(s.OCI, s.Err)
		if of[n] == 0 {
			p.missing = &consistency.Difference{Path: "index", Field: p.name, Want: "a Nydus image", Got: "none"}
		} else {
			var err error
			t := targets[of[n]-1]
			p.target, err = theOne(t.Nydus, t.Err)
			p.err = cmp.Or(p.err, err)
		}
		list = append(list, p)
	}
	for i, t := range targets {
		if !paired[i] {
			p := checkPlatform{name: t.Platform.String()}
			p.target, p.err = theOne(t.Nydus, t.Err)
			p.missing = &consistency.Difference{Path: "index", Field: p.name, Want: "an OCI image", Got: "none"}
			list = append(list, p)
		}
	}
	return list
}

// errAmbiguous is wrapped by errors about two images of which neither is meant more than
// the other.
var errAmbiguous = errors.New("which one is meant is not said")

// theOne is the image of one kind and platform; nil where there is none. err says why not
// all are known.
func theOne(images []v1.Descriptor, err error) (*v1.Descriptor, error) {
	switch {
	case err != nil || len(images) == 0:
		return nil, err
	case len(images) > 1:
		return nil, fmt.Errorf("it has %d images of one kind for the platform, %s and %s: %w", len(images), images[0].Digest, images[1].Digest, errAmbiguous)
	}
	return &images[0], nil
}

// samePlatform says whether two platforms are one: v8 is what arm64 means.
func samePlatform(a, b v1.Platform) bool {
	variant := func(p v1.Platform) string {
		if p.Architecture == "arm64" && p.Variant == "v8" {
			return ""
		}
		return p.Variant
	}
	return a.OS == b.OS && a.Architecture == b.Architecture && variant(a) == variant(b) && a.OSVersion == b.OSVersion
}

// addMissing adds to a report that there is an image only of one kind.
func addMissing(report *consistency.Report, missing *consistency.Difference, o consistency.Options) {
	result := missingReport(missing, o).Results[0]
	for i := range report.Results {
		if r := &report.Results[i]; r.Rule == result.Rule {
			r.Differences = append(r.Differences, result.Differences...)
			slices.SortStableFunc(r.Differences, func(a, b consistency.Difference) int { return strings.Compare(a.Path, b.Path) })
			r.Ignored += result.Ignored
		}
	}
}

// missingReport is the report of a pair of which there is one image only, that is not read.
func missingReport(missing *consistency.Difference, o consistency.Options) *consistency.Report {
	result := consistency.Result{Rule: consistency.RuleManifest}
	for _, ignore := range o.Ignore {
		if ignore.Matches(*missing) {
			result.Ignored = 1
		}
	}
	if result.Ignored == 0 {
		result.Differences = []consistency.Difference{*missing}
	}
	return &consistency.Report{Depth: o.Data, Results: []consistency.Result{result}}
}
