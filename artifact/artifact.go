// Package artifact is Trivy's artifact for a Nydus image.
//
// Trivy's own image artifact reads each layer's tar stream from end to end,
// hands the files to analyzers, and puts what they find into its cache under a
// key of the layer. This one cuts the image into slices, one a layer (see
// slices.go), asks the analyzers which files they want, reads the chunks of these
// files only, and puts the results into the same cache under a key of the data
// blob. Trivy's detection and reports then go on as for any image: the reports
// call it a container image, since all formats but two depend on that. [Type]
// is what it is called elsewhere.
//
// One scan: package databases first (systemfiles.go), since Trivy drops what is
// found in the files that they list; beside them what is read in any case, then
// the programs that they do not list, each in the order of their data
// (analyze.go); meanwhile the misconfiguration checks are compiled if a file asks for them (checks.go);
// then the results of a slice are put together (blobinfo.go). A read that fails
// anywhere fails the scan, and nothing is cached.
package artifact

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	xsemaphore "golang.org/x/sync/semaphore"

	"github.com/aquasecurity/trivy/pkg/cache"
	"github.com/aquasecurity/trivy/pkg/fanal/artifact"
	ftypes "github.com/aquasecurity/trivy/pkg/fanal/types"
	"github.com/aquasecurity/trivy/pkg/log"
	"github.com/aquasecurity/trivy/pkg/semaphore"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/blob"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/projects"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// Type is the artifact's type. Reports say container_image.
const Type ftypes.ArtifactType = "nydus"

// ErrLayers is wrapped by the refusal of an image whose hidden files are not
// known (--require-layers).
var ErrLayers = errors.New("--require-layers")

// Options are what the artifact takes beside Trivy's own.
type Options struct {
	// Name is what reports call the image: what the user gave.
	Name string
	// Mount names the way in which the image is mounted, and where another process
	// reads its data. Records of one way are not taken for those of another, nor
	// results where nobody verifies the data.
	Mount string
	// RequireLayers refuses an image of which the hidden files are not known.
	RequireLayers bool
	// MaxFile is how many bytes analyzers may be given of one file; 0 is
	// [DefaultMaxFile].
	MaxFile int64
	// Projects scans what could lead Trivy's scanners out of the image; nil lets
	// them run in this process.
	Projects *projects.Scanner
	// RawChecks says whether a misconfiguration check could be about JSON and YAML as such,
	// once there is such a file; nil if any could.
	RawChecks func() bool
	// OwnChecks says that there are misconfiguration checks of the user's: they are
	// compiled in any case, so that mistakes in them are told.
	OwnChecks bool
	// Warn, if not nil, is told what a person should know, a line each.
	Warn func(string)
	// Progress, if not nil, is told how many files of how many are done. It may
	// be called from several goroutines at once.
	Progress func(done, total int)
}

// DefaultMaxFile is how many bytes of a file analyzers are given, unless the user
// allows more. Some analyzers keep all of a file in memory, and a bootstrap of a
// kilobyte can show a file of terabytes. Of larger files that are read in parts only,
// as executables are, the parts count.
const DefaultMaxFile int64 = 1_000_000_000

// An Artifact is a Nydus image to be scanned, once.
type Artifact struct {
	image *nydusimage.Image
	open  Opener
	mount *nydusmount.Mount // nil until it is needed
	cache cache.ArtifactCache
	*Analyzers
	our Options

	log     *log.Logger
	desk    *desk
	limit   *semaphore.Weighted
	loading *xsemaphore.Weighted // bytes, see batch
	held    atomic.Int64         // see sink
	// analyzing is the time in which analyzers have files.
	analyzing blob.Stopwatch
	failures  failures
	progress  progress
	layers    []layer
	works     []*work
	warnings  []string
	// databaseKey is the digest of the package databases that the image shows, once
	// it is needed.
	databaseKey string
	evidence    Evidence
}

var _ artifact.Artifact = (*Artifact)(nil)

// An Opener mounts the image. ahead tells which chunks of the merged tree will be
// wanted first, whatever the layers are.
type Opener func(ctx context.Context, ahead func(*rafs.Tree) []rafs.Chunk) (*nydusmount.Mount, error)

// New returns the artifact of an image, which open mounts if its results are not
// in the cache. Results are taken from and put into the cache.
func New(image *nydusimage.Image, open Opener, c cache.ArtifactCache, analyzers *Analyzers, our Options) *Artifact {
	return &Artifact{
		image:     image,
		open:      open,
		cache:     c,
		Analyzers: analyzers,
		our:       our,
		log:       log.WithPrefix("nydus"),
		desk:      newDesk(analyzers.group),
		limit:     semaphore.New(analyzers.option.Parallel),
		failures:  failures{maxFile: cmp.Or(our.MaxFile, DefaultMaxFile)},
		loading:   xsemaphore.NewWeighted(loadedBytes),
		progress:  progress{report: our.Progress},
	}
}

// Inspect implements [artifact.Artifact].
func (a *Artifact) Inspect(ctx context.Context) (artifact.Reference, error) {
	if sbom, found, err := a.attachedSBOM(ctx); err != nil || found {
		return sbom, err
	}
	name, err := a.recordName()
	if err != nil {
		return artifact.Reference{}, fmt.Errorf("name of the image's record: %w", err)
	}
	known, err := a.recorded(ctx, name)
	if err != nil {
		return artifact.Reference{}, err
	}
	if known != nil {
		return a.reference(known), a.use(known)
	}
	r, err := a.inspect(ctx, name)
	if err != nil {
		return artifact.Reference{}, err
	}
	return a.reference(&r), nil
}

// inspect mounts the image and scans what the cache does not have. The record is kept
// under its name, unless parts of the image contradict each other: if they came spoiled,
// the next scan finds it another. Nor is it where nothing fixes the image's bytes.
func (a *Artifact) inspect(ctx context.Context, name string) (r record, err error) {
	cut, err := a.mountAndCut(ctx)
	if (err == nil && cut.contradicted) || errors.Is(err, rafs.ErrCorrupt) {
		// What comes spoiled comes another time as it is.
		if a.mount != nil {
			a.mount.Doubt()
			_ = a.mount.Close()
		}
		cut, err = a.mountAndCut(ctx)
	}
	if err != nil {
		return r, err
	}
	a.warnings = slices.Concat(a.mount.Warnings, cut.warnings)
	a.warn(a.warnings)
	if err := a.tell(cut.notes); err != nil {
		return r, err
	}
	a.layers, r.DiffIDs = cut.layers, diffIDs(cut.layers)
	for i := range cut.layers {
		r.Compressed += cut.layers[i].size
		r.Uncompressed += cut.slices[i].size
	}
	if err := a.checkSize(r.Compressed, r.Uncompressed); err != nil {
		return r, err
	}
	version := a.mount.Merged.Superblock().Version
	for i := range cut.slices {
		s := &cut.slices[i]
		w := &work{slice: *s, base: a.layers[s.layer].base}
		s.files = nil // most of them nobody wants
		a.chooseFiles(w)
		a.works = append(a.works, w)
	}
	for _, w := range a.works {
		if w.key, err = a.sliceKey(w); err != nil {
			return r, fmt.Errorf("cache key of layer %d: %w", w.layer+1, err)
		}
		r.Keys = append(r.Keys, w.key)
	}
	if r.ImageKey, err = a.imageKey(); err != nil {
		return r, fmt.Errorf("cache key of the image: %w", err)
	}
	missingImage, missing, err := a.cache.MissingBlobs(ctx, r.ImageKey, r.Keys)
	if err != nil {
		return r, fmt.Errorf("ask the cache what it has: %w", err)
	}
	if missingImage && a.checksConfig() || len(missing) > 0 && a.our.OwnChecks {
		a.checks.need()
	}
	results, err := a.scan(ctx, a.pick(missing))
	if err != nil {
		return r, err
	}
	// What is read after the end of the context may be missing without an error.
	if err := context.Cause(ctx); err != nil {
		return r, err
	}
	if err := a.store(ctx, r.ImageKey, missingImage, results); err != nil {
		return r, err
	}
	a.fillEvidence(ctx, version, cut.notes, missing)
	r.Evidence = a.evidence
	if !cut.contradicted && a.lasts() {
		a.keep(name, r)
	}
	return r, nil
}

func (a *Artifact) mountAndCut(ctx context.Context) (cut *slicing, err error) {
	if a.mount, err = a.open(ctx, a.databaseChunks); err != nil {
		return nil, fmt.Errorf("open the image: %w", err)
	}
	if cut, err = cutSlices(ctx, a.mount, a.option.WalkerOption); err != nil {
		return nil, fmt.Errorf("assign files to layers: %w", err)
	}
	return cut, nil
}

// cleanTime bounds the wait for a cache that another process holds.
const cleanTime = 10 * time.Second

// Clean implements [artifact.Artifact]: what was cached stays, unless it is of no use
// to another scan.
func (a *Artifact) Clean(reference artifact.Reference) error {
	if a.mount == nil || a.lasts() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), cleanTime)
	defer cancel()
	return a.cache.DeleteBlobs(ctx, reference.BlobIDs)
}

func (o *Options) warn(line string) {
	if o.Warn != nil {
		o.Warn(line)
	}
}

// warn tells all of the lines.
func (a *Artifact) warn(lines []string) {
	for _, line := range lines {
		a.our.warn(line)
	}
}
