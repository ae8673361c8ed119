package consistency

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
)

// A Depth says how far the content of files is compared.
type Depth string

// The depths, from the cheapest.
const (
	// DepthNone compares metadata only.
	DepthNone Depth = "none"
	// DepthDigest cuts the OCI image's files into chunks, hashes them, and
	// compares with the digests in the Nydus image's metadata. No data blob is
	// read.
	DepthDigest Depth = "digest"
	// DepthFull also reads every chunk of every data blob and verifies it.
	DepthFull Depth = "full"
)

// Depths lists the depths.
var Depths = []Depth{DepthNone, DepthDigest, DepthFull}

// Images are the two images that are compared. The rules do not close them.
type Images struct {
	// Source is the OCI image. It is nil where a Nydus image is checked alone.
	Source *nydusimage.OCI
	Target *nydusimage.Image
	// Mounted, if not nil, is the target as another program serves it: it is
	// compared instead of what this process reads.
	Mounted Filesystem

	// opened reads the target's bootstrap layer; Check sets it, so that the rules
	// share one.
	opened func() (*nydusimage.Bootstrap, error)
	// layerTails gives the tails of the target's layers, likewise.
	layerTails func() []layerTail
}

// bootstrap gives the target's bootstrap layer.
func (i *Images) bootstrap(ctx context.Context) (*nydusimage.Bootstrap, error) {
	if i.opened != nil {
		return i.opened()
	}
	return i.Target.Bootstrap(ctx)
}

// Options say how a check is done. The zero value compares by digests.
type Options struct {
	Data   Depth // "" is DepthDigest
	Ignore []Ignore
}

// A Rule is one of the questions that a check asks.
type Rule string

// The rules, in the order in which they are reported.
const (
	// RuleManifest: what the manifests and configs say, and whether the registry
	// has what the manifest lists.
	RuleManifest Rule = "manifest"
	// RuleBootstrap: whether the Nydus metadata stands on its own.
	RuleBootstrap Rule = "bootstrap"
	// RuleFilesystem: whether both images hold the same files.
	RuleFilesystem Rule = "filesystem"
	// RuleData: whether every byte of every data blob is what its digest says. It
	// is there with DepthFull only.
	RuleData Rule = "data"
)

// A Result is the answer of one rule.
type Result struct {
	Rule Rule
	// Differences are all that were found, sorted by path and field, without
	// those that were to be ignored, which Ignored counts, and without those of a
	// bootstrap that are too many to keep, which More counts.
	Differences []Difference
	Ignored     int
	More        int
	// Notes are what was seen and is no difference, such as what every converter
	// loses.
	Notes []Note
	// Skipped says why the rule was not run; else "".
	Skipped string
	// Err says why the rule could not be completed; the differences found until
	// then stand. Nothing follows from their absence.
	Err     error
	Elapsed time.Duration
}

// A Note is what a rule saw of a path that is no difference.
type Note struct {
	Path string
	Text string
}

// A Verdict is the outcome of a rule or of a whole check.
type Verdict string

// The verdicts, from the best. The worst of its rules' is a check's.
const (
	// Skipped: the rule was not run.
	Skipped Verdict = "skipped"
	// Equal: completed, and no difference was found.
	Equal Verdict = "equal"
	// Different: completed, with differences.
	Different Verdict = "different"
	// Incomplete: something could not be read or judged; with or without
	// differences.
	Incomplete Verdict = "incomplete"
)

// Worse returns the worse of two verdicts.
func (v Verdict) Worse(other Verdict) Verdict {
	order := []Verdict{Skipped, Equal, Different, Incomplete}
	if slices.Index(order, other) > slices.Index(order, v) {
		return other
	}
	return v
}

// Verdict is the outcome of the rule.
func (r *Result) Verdict() Verdict {
	switch {
	case r.Err != nil:
		return Incomplete
	case len(r.Differences)+r.More > 0:
		return Different
	case r.Skipped != "":
		return Skipped
	}
	return Equal
}

// A Report is the answer of all rules.
type Report struct {
	Depth   Depth // how deep the content was compared, where it was
	Results []Result
	// Counts is what was compared.
	Counts Counts
}

// Counts say how much a check has compared.
type Counts struct {
	Paths       int64 // names in the target's tree
	Files       int64 // regular files whose content was compared
	FileBytes   int64 // their size
	LayerBytes  int64 // of OCI layers, as stored, that were read
	BlobBytes   int64 // of data blobs, as stored, that were read
	BlobChunks  int64 // chunks read and verified
	BlobsUnread int   // data blobs of which no chunk was read
}

func (c *Counts) add(other Counts) {
	c.Paths += other.Paths
	c.Files += other.Files
	c.FileBytes += other.FileBytes
	c.LayerBytes += other.LayerBytes
	c.BlobBytes += other.BlobBytes
	c.BlobChunks += other.BlobChunks
	c.BlobsUnread += other.BlobsUnread
}

// Verdict is the worst of the rules' verdicts.
func (r *Report) Verdict() Verdict {
	worst := Skipped
	for i := range r.Results {
		worst = worst.Worse(r.Results[i].Verdict())
	}
	return worst
}

// Err joins what kept rules from being completed.
func (r *Report) Err() error {
	var errs []error
	for _, result := range r.Results {
		errs = append(errs, result.Err)
	}
	return errors.Join(errs...)
}

// A runner answers a rule's question. It writes only to the counts that it is
// given.
type runner struct {
	rule Rule
	run  func(ctx context.Context, images Images, o Options, counts *Counts) Result
}

// Check runs all rules and reports all that they find. Its error is that of a
// wrong option; what kept a rule from being completed is in its Result.
func Check(ctx context.Context, images Images, o Options) (*Report, error) {
	if o.Data == "" {
		o.Data = DepthDigest
	}
	if !slices.Contains(Depths, o.Data) {
		return nil, fmt.Errorf("compare data by %q: there are %v", o.Data, Depths)
	}
	images.opened = sync.OnceValues(func() (*nydusimage.Bootstrap, error) {
		return images.Target.Bootstrap(ctx)
	})
	images.shareTails(ctx)
	report := &Report{Depth: o.Data}
	// Probing blobs and reading their tails waits for the registry while the
	// layers are decompressed. The data is read afterwards: both at once would take
	// the memory of both, and be no faster.
	report.run(ctx, images, o,
		runner{RuleManifest, checkManifest}, runner{RuleBootstrap, checkBootstrap}, runner{RuleFilesystem, filesystemRule})
	report.confirm(ctx, &images, o)
	if o.Data == DepthFull {
		report.run(ctx, images, o, runner{RuleData, checkData})
	}
	return report, nil
}

// shareTails has the tails of the target's layers read once for all rules.
func (i *Images) shareTails(ctx context.Context) {
	i.layerTails = sync.OnceValue(func() []layerTail {
		bootstrap, err := i.opened()
		if err != nil {
			return nil
		}
		return readTails(ctx, i.Target, bootstrap.Tree)
	})
}

// run runs rules at once and appends their results, in the order of the rules.
func (r *Report) run(ctx context.Context, images Images, o Options, runners ...runner) {
	results, counts := make([]Result, len(runners)), make([]Counts, len(runners))
	var group sync.WaitGroup
	for i, r := range runners {
		group.Go(func() {
			started := time.Now()
			result := r.run(ctx, images, o, &counts[i])
			result.Rule, result.Elapsed = r.rule, time.Since(started)
			result.settle(o.Ignore)
			results[i] = result
		})
	}
	group.Wait()
	r.Results = append(r.Results, results...)
	for _, c := range counts {
		r.Counts.add(c)
	}
}

// filesystemRule leaves the rule out where there is nothing to compare with.
func filesystemRule(ctx context.Context, images Images, o Options, counts *Counts) Result {
	if images.Source == nil {
		return Result{Skipped: "there is no OCI image to compare with"}
	}
	return checkFilesystem(ctx, images, o, counts)
}

// settle takes out what is to be ignored and sorts the rest.
func (r *Result) settle(ignores []Ignore) {
	found := len(r.Differences)
	r.Differences = slices.DeleteFunc(r.Differences, func(d Difference) bool { return ignored(d, ignores) })
	r.Ignored += found - len(r.Differences)
	slices.SortStableFunc(r.Differences, func(a, b Difference) int {
		return cmp.Or(strings.Compare(a.Path, b.Path), strings.Compare(a.Field, b.Field))
	})
	slices.SortStableFunc(r.Notes, func(a, b Note) int {
		return cmp.Or(strings.Compare(a.Path, b.Path), strings.Compare(a.Text, b.Text))
	})
}
