package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/aquasecurity/trivy/pkg/flag"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/consistency"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
)

// A checker compares the images of one call, one pair for each platform.
type checker struct {
	options flag.Options
	ours    checkFlags
	// alone says that one reference was given: source and target are the same.
	alone          bool
	source, target *checkSide
	stderr         io.Writer
}

// A checkSide is one of the two images as the user named it, with what its
// registry is asked with.
type checkSide struct {
	*service
	name string // what the user gave
}

func newCheckSide(options flag.Options, ours checkFlags, name string, stderr io.Writer) *checkSide {
	return &checkSide{
		service: &service{session: &session{ours: nydusOptions{plainHTTP: ours.plainHTTP, keys: ours.keys, bounds: ours.bounds}, stderr: stderr}, options: options},
		name:    name,
	}
}

// A pick says which image of an index is meant; the zero value is what --platform says.
type pick struct {
	platform *v1.Platform
	manifest *v1.Descriptor
}

// imageOptions are those of the side's registry.
func (s *checkSide) imageOptions(ctx context.Context, p pick) (nydusimage.Options, error) {
	o, err := s.service.imageOptions(ctx, s.name)
	o.Manifest = p.manifest
	if p.platform != nil {
		o.Platform = p.platform
	}
	return o, err
}

func (s *checkSide) openOCI(ctx context.Context, p pick) (*nydusimage.OCI, error) {
	o, err := s.imageOptions(ctx, p)
	if err != nil {
		return nil, err
	}
	return nydusimage.OpenOCI(ctx, s.name, o)
}

func (s *checkSide) openNydus(ctx context.Context, p pick, twin bool) (*nydusimage.Image, error) {
	o, err := s.imageOptions(ctx, p)
	if err != nil {
		return nil, err
	}
	o.Twin = twin
	return nydusimage.Open(ctx, s.name, o)
}

// spent is what the side has cost so far.
func (s *checkSide) spent() traffic { return traffic{s.traffic.Requests(), s.traffic.Bytes()} }

// check compares one pair. Its error is in the result.
func (c *checker) check(ctx context.Context, p checkPlatform) *checkedPair {
	pair := &checkedPair{Platform: p.name, Data: c.ours.check.Data, Mount: c.ours.mount}
	started := time.Now()
	before := [2]traffic{c.source.spent(), c.target.spent()}
	within, cancel := withTimeout(ctx, "the check", c.options.Timeout)
	defer cancel()
	report, err := c.compare(within, p, pair)
	pair.settle(report, inTime(within, cmp.Or(err, within.Err())))
	pair.Seconds = time.Since(started).Seconds()
	pair.Source.add(c.source.spent().minus(before[0]))
	pair.Target.add(c.target.spent().minus(before[1]))
	return pair
}

// compare opens both images and runs the rules. It fills in what the pair says of
// the images.
func (c *checker) compare(ctx context.Context, p checkPlatform, pair *checkedPair) (_ *consistency.Report, err error) {
	if p.err != nil {
		return nil, p.err
	}
	if p.missing != nil && p.target == nil {
		return missingReport(p.missing, c.ours.check), nil
	}
	images, err := c.open(ctx, p)
	if images.Source != nil {
		defer func() { err = errors.Join(err, images.Source.Close()) }()
		pair.Source = sourceImage(c.source.name, images.Source)
	}
	if images.Target != nil {
		defer func() { err = errors.Join(err, images.Target.Close()) }()
		pair.Target = targetImage(c.target.name, images.Target)
	}
	if err != nil {
		return nil, err
	}
	if c.ours.mount == mountNydusd {
		var daemon *nydusmount.Daemon
		if daemon, err = nydusmount.StartDaemon(ctx, images.Target, c.ours.nydusd.mount(c.target.options)); err != nil {
			return nil, err
		}
		daemon.EndWith(ctx)
		defer func() {
			pair.Target.Requests, pair.Target.FetchedBytes = daemon.Traffic(ctx)
			err = errors.Join(daemon.Cause(err), daemon.Close())
		}()
		images.Mounted = consistency.Dir(daemon.MountPoint)
	}
	meter := c.watch(images)
	defer meter.stop()
	report, err := consistency.Check(ctx, images, c.ours.check)
	if err != nil {
		return nil, err
	}
	if p.missing != nil {
		addMissing(report, p.missing, c.ours.check)
	}
	return report, unfinished(report)
}

// unfinished says which rule could not be completed, and why: the first, for the
// others mostly failed for the same reason. The report has them all.
func unfinished(report *consistency.Report) error {
	var first error
	more := 0
	for _, r := range report.Results {
		switch {
		case r.Err == nil:
		case first == nil:
			first = fmt.Errorf("%s: %w", r.Rule, r.Err)
		default:
			more++
		}
	}
	if more > 0 {
		return fmt.Errorf("%w; and %s", first, count(more, "more rule"))
	}
	return first
}

// open opens the images of a pair. What it has opened it returns also with an
// error.
func (c *checker) open(ctx context.Context, p checkPlatform) (images consistency.Images, err error) {
	if p.name == "" {
		return c.openNamed(ctx)
	}
	if images.Target, err = c.target.openNydus(ctx, pick{manifest: p.target}, c.ours.twin); err == nil && p.source != nil {
		images.Source, err = c.source.openOCI(ctx, pick{manifest: p.source})
	}
	return images, err
}

// nameNydus says what to do about an OCI image, given alone.
func nameNydus(err error) error {
	return usage("%w: name the Nydus image that was made from it, too, or look for it with --twin", err)
}

// openNamed opens the images that the references and --platform say.
func (c *checker) openNamed(ctx context.Context) (images consistency.Images, err error) {
	if images.Target, err = c.target.openNydus(ctx, pick{}, c.ours.twin); err != nil {
		var plain *nydusimage.NotNydusError
		if errors.As(err, &plain) && c.alone && !c.ours.twin {
			return images, nameNydus(err)
		}
		return images, err
	}
	index := images.Target.Descriptor.MediaType.IsIndex()
	twin := images.Target.TwinOf != (v1.Hash{})
	if c.alone && !index && !twin {
		return images, nil
	}
	var of pick
	given := c.options.Platform.Platform != nil
	if !given && !index && !c.alone {
		// An image says itself what platform it is for; an index is searched for it.
		platform := nydusimage.ConfigPlatform(images.Target.Config)
		of.platform = &platform
	}
	images.Source, err = c.source.openOCI(ctx, of)
	if c.alone && errors.Is(err, nydusimage.ErrNydus) {
		return images, nil // an index with nothing but Nydus images
	}
	if err != nil || given || !index || images.Source.Descriptor.MediaType.IsIndex() {
		return images, err
	}
	// The other way round: the source is one image, the target an index.
	platform := nydusimage.ConfigPlatform(images.Source.Config)
	if samePlatform(platform, nydusimage.ConfigPlatform(images.Target.Config)) {
		return images, nil
	}
	if err := images.Target.Close(); err != nil {
		return images, err
	}
	images.Target, err = c.target.openNydus(ctx, pick{platform: &platform}, false)
	return images, err
}
