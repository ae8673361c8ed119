package main

import (
	"context"
	"errors"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/consistency"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
)

// A checkPlatform is a platform for which images are compared.
type checkPlatform struct {
	name string // "" where only one pair is compared
	// source and target are the platform as each side spells it; nil is what
	// --platform says.
	source, target *v1.Platform
	// missing, if not nil, says that a side has no image for the platform.
	missing *consistency.Difference
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
	if c.alone {
		var list []checkPlatform
		for _, p := range source {
			list = append(list, checkPlatform{name: p.String(), source: &p, target: &p})
		}
		return list, nil
	}
	target, err := c.target.platforms(ctx)
	if err != nil {
		return nil, err
	}
	return matchPlatforms(source, target), nil
}

// matchPlatforms pairs the platforms of both sides: first those that are spelled alike.
func matchPlatforms(source, target []v1.Platform) []checkPlatform {
	var list []checkPlatform
	paired := make([]bool, len(target))
	targets := make([]*v1.Platform, len(source))
	for _, same := range []func(a, b v1.Platform) bool{v1.Platform.Equals, samePlatform} {
		for n, s := range source {
			for i := range target {
				if targets[n] == nil && !paired[i] && same(s, target[i]) {
					paired[i], targets[n] = true, &target[i]
				}
			}
		}
	}
	for n, s := range source {
		p := checkPlatform{name: s.String(), source: &s, target: targets[n]}
		if p.target == nil {
			p.missing = &consistency.Difference{Path: "index", Field: p.name, Want: "an image", Got: "none"}
		}
		list = append(list, p)
	}
	for i, t := range target {
		if !paired[i] {
			name := t.String()
			list = append(list, checkPlatform{name: name, target: &t,
				missing: &consistency.Difference{Path: "index", Field: name, Want: "none", Got: "an image"}})
		}
	}
	return list
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

// platformOf is the platform that a config names; empty where it names none.
func platformOf(config *v1.ConfigFile) v1.Platform {
	return v1.Platform{OS: config.OS, Architecture: config.Architecture, Variant: config.Variant, OSVersion: config.OSVersion}
}

// platforms lists the platforms of a side: those of an index, or that of the one
// image.
func (s *checkSide) platforms(ctx context.Context) ([]v1.Platform, error) {
	o, err := s.imageOptions(ctx, nil)
	if err != nil {
		return nil, err
	}
	list, err := nydusimage.Platforms(ctx, s.name, o)
	if err != nil || len(list) > 0 {
		return list, err
	}
	oci, err := nydusimage.OpenOCI(ctx, s.name, o)
	if err == nil {
		return []v1.Platform{platformOf(oci.Config)}, oci.Close()
	}
	if !errors.Is(err, nydusimage.ErrNydus) {
		return nil, err
	}
	nydus, err := nydusimage.Open(ctx, s.name, o)
	if err != nil {
		return nil, err
	}
	return []v1.Platform{platformOf(nydus.Config)}, nydus.Close()
}

// requireSources makes it a difference that an index has no OCI image for a platform,
// where it has one for another: without any there is nothing to compare with.
func requireSources(pairs []*checkedPair, o consistency.Options) {
	if !slices.ContainsFunc(pairs, func(p *checkedPair) bool { return p.Source != nil }) {
		return
	}
	for _, p := range pairs {
		if p.Source != nil || p.Target == nil || p.err != nil {
			continue
		}
		missing := missingReport(&consistency.Difference{Path: "index", Field: p.Platform, Want: "an OCI image", Got: "none"}, o).Results[0]
		for i := range p.report.Results {
			if r := &p.report.Results[i]; r.Rule == missing.Rule {
				r.Differences = append(r.Differences, missing.Differences...)
				slices.SortStableFunc(r.Differences, func(a, b consistency.Difference) int { return strings.Compare(a.Path, b.Path) })
				r.Ignored += missing.Ignored
			}
		}
		p.settle(p.report, nil)
	}
}

// missingReport is the report of a pair of which there is one image only.
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
