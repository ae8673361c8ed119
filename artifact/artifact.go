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
// One scan: databases first (systemfiles.go), since Trivy drops what is found
// in the files that they list; then all other files, in the order of their data
// (analyze.go); then the results of a slice are put together (blobinfo.go). A
// read that fails anywhere fails the scan, and nothing is cached.
package artifact

import (
	"context"
	"errors"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/aquasecurity/trivy/pkg/cache"
	"github.com/aquasecurity/trivy/pkg/fanal/analyzer"
	"github.com/aquasecurity/trivy/pkg/fanal/artifact"
	"github.com/aquasecurity/trivy/pkg/fanal/handler"
	ftypes "github.com/aquasecurity/trivy/pkg/fanal/types"
	"github.com/aquasecurity/trivy/pkg/log"
	"github.com/aquasecurity/trivy/pkg/semaphore"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
)

// Type is the artifact's type. Reports say container_image.
const Type ftypes.ArtifactType = "nydus"

// ErrLayers is wrapped by the refusal of an image whose hidden files are not
// known (--require-layers).
var ErrLayers = errors.New("--require-layers")

// Analyzers are what runs over files and image configs. Making them writes
// state that is global to the process, so they are made once and shared.
type Analyzers struct {
	files    analyzer.AnalyzerGroup
	config   analyzer.ConfigAnalyzerGroup
	handlers handler.Manager
	option   artifact.Option
}

// NewAnalyzers makes the analyzers for Trivy's options.
func NewAnalyzers(option artifact.Option) (*Analyzers, error) {
	handlers, err := handler.NewManager(option)
	if err != nil {
		return nil, fmt.Errorf("start handlers: %w", err)
	}
	files, err := analyzer.NewAnalyzerGroup(option.AnalyzerOptions())
	if err != nil {
		return nil, fmt.Errorf("start analyzers: %w", err)
	}
	config, err := analyzer.NewConfigAnalyzerGroup(option.ConfigAnalyzerOptions())
	if err != nil {
		return nil, fmt.Errorf("start analyzers of image configs: %w", err)
	}
	return &Analyzers{files: files, config: config, handlers: handlers, option: option}, nil
}

// Options are what the artifact takes beside Trivy's own.
type Options struct {
	// Name is what reports call the image: what the user gave.
	Name string
	// Mount names the way in which the image is mounted. Records of one way are
	// not taken for those of another.
	Mount string
	// RequireLayers refuses an image of which the hidden files are not known.
	RequireLayers bool
	// Warn, if not nil, is told what a person should know, a line each.
	Warn func(string)
	// Progress, if not nil, is told how many files of how many are done. It may
	// be called from several goroutines at once.
	Progress func(done, total int)
}

// An Artifact is a Nydus image to be scanned, once.
type Artifact struct {
	image    *nydusimage.Image
	open     func(context.Context) (*nydusmount.Mount, error)
	mount    *nydusmount.Mount // nil until it is needed
	cache    cache.ArtifactCache
	group    analyzer.AnalyzerGroup
	config   analyzer.ConfigAnalyzerGroup
	handlers handler.Manager
	option   artifact.Option
	our      Options

	log      *log.Logger
	desk     *desk
	limit    *semaphore.Weighted
	failures failures
	progress progress
	works    []*work
	read     int // files that analyzers were given
	evidence Evidence
}

var _ artifact.Artifact = (*Artifact)(nil)

// New returns the artifact of an image, which open mounts if its results are not
// in the cache. Results are taken from and put into the cache.
func New(image *nydusimage.Image, open func(context.Context) (*nydusmount.Mount, error), c cache.ArtifactCache, analyzers *Analyzers, our Options) *Artifact {
	return &Artifact{
		image:    image,
		open:     open,
		cache:    c,
		group:    analyzers.files,
		config:   analyzers.config,
		handlers: analyzers.handlers,
		option:   analyzers.option,
		our:      our,
		log:      log.WithPrefix("nydus"),
		desk:     newDesk(analyzers.files),
		limit:    semaphore.New(analyzers.option.Parallel),
		progress: progress{report: our.Progress},
	}
}

// A work is a slice on its way to a result.
type work struct {
	slice
	files    []wantedFile // those that some analyzer wants
	base     bool         // a layer of the base image: not scanned for secrets
	key      string
	database database
}

type wantedFile struct {
	file
	want demand
}

// disabled are the analyzers that do not see the slice's files of the given
// visibility. What is hidden is seen by the secret scanner and by the analyzers
// of package databases, since a database may have moved, and where it was not
// deleted by all that can only add; a base layer by no secret scanner.
func (w *work) disabled(seen visibility, d *desk) []analyzer.Type {
	var off []analyzer.Type
	switch seen {
	case replaced:
		off = d.allBut(append(d.hiddenReaders(), analyzer.TypeSecret)...)
	case deleted:
		off = d.allBut(append(packageDatabases, analyzer.TypeSecret)...)
	}
	if w.base {
		off = append(off, analyzer.TypeSecret)
	}
	return off
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
		return a.reference(known.ImageKey, known.Keys), a.use(known)
	}
	r, err := a.inspect(ctx)
	if err != nil {
		return artifact.Reference{}, err
	}
	a.keep(name, r)
	return a.reference(r.ImageKey, r.Keys), nil
}

// inspect mounts the image and scans what the cache does not have.
func (a *Artifact) inspect(ctx context.Context) (r record, err error) {
	if a.mount, err = a.open(ctx); err != nil {
		return r, fmt.Errorf("open the image: %w", err)
	}
	cut, err := cut(a.mount, a.option.WalkerOption)
	if err != nil {
		return r, fmt.Errorf("assign files to layers: %w", err)
	}
	if err := a.tell(cut.notes); err != nil {
		return r, err
	}
	for i := range a.image.Layers {
		r.Compressed += a.image.Layers[i].Size
		r.Uncompressed += cut.slices[i].size
	}
	if err := a.checkSize(r.Compressed, r.Uncompressed); err != nil {
		return r, err
	}
	bases := baseLayers(a.image)
	for _, s := range cut.slices {
		w := &work{slice: s, base: bases[s.layer]}
		a.chooseFiles(w)
		if w.key, err = a.sliceKey(w); err != nil {
			return r, fmt.Errorf("cache key of layer %d: %w", s.layer+1, err)
		}
		a.works = append(a.works, w)
		r.Keys = append(r.Keys, w.key)
	}
	if r.ImageKey, err = a.imageKey(); err != nil {
		return r, fmt.Errorf("cache key of the image: %w", err)
	}
	missingImage, missing, err := a.cache.MissingBlobs(ctx, r.ImageKey, r.Keys)
	if err != nil {
		return r, fmt.Errorf("ask the cache what it has: %w", err)
	}
	results, err := a.scan(ctx, a.pick(missing))
	if err != nil {
		return r, err
	}
	if err := a.store(ctx, r.ImageKey, missingImage, results); err != nil {
		return r, err
	}
	a.fillEvidence(ctx, cut.notes, missing)
	r.Evidence = a.evidence
	return r, nil
}

// Clean implements [artifact.Artifact]: what was cached stays.
func (a *Artifact) Clean(artifact.Reference) error { return nil }

// pick returns the works that the cache does not have, each key once: layers
// with the same blob are one.
func (a *Artifact) pick(missing []string) []*work {
	wanted := make(map[string]bool, len(missing))
	for _, key := range missing {
		wanted[key] = true
	}
	var works []*work
	for _, w := range a.works {
		if wanted[w.key] {
			works = append(works, w)
			delete(wanted, w.key)
		}
	}
	return works
}

// chooseFiles keeps the files of a slice that some analyzer wants.
func (a *Artifact) chooseFiles(w *work) {
	disabled := make(map[visibility][]analyzer.Type)
	for _, seen := range []visibility{shown, replaced, deleted} {
		disabled[seen] = w.disabled(seen, a.desk)
	}
	for _, f := range w.slice.files {
		if want := a.desk.demand(&f, disabled[f.seen]); want.any() {
			w.files = append(w.files, wantedFile{file: f, want: want})
		}
	}
	w.slice.files = nil
}

// scan analyzes what the cache does not have.
func (a *Artifact) scan(ctx context.Context, works []*work) (map[string]ftypes.BlobInfo, error) {
	if len(works) == 0 {
		return nil, nil
	}
	if err := a.databases(ctx, works); err != nil {
		return nil, a.cause(err)
	}
	var items []item
	sinks := make(map[*work]*slicesinks)
	defer func() {
		for _, s := range sinks {
			s.cleanup()
		}
	}()
	for _, w := range works {
		s, err := a.newSliceSinks(w)
		if err != nil {
			return nil, err
		}
		sinks[w] = s
		items = append(items, a.itemsOf(w, s)...)
	}
	a.progress.start(len(items))
	if err := a.analyze(ctx, items); err != nil {
		return nil, a.cause(err)
	}
	if err := a.failures.err(); err != nil {
		return nil, err
	}
	infos := make([]ftypes.BlobInfo, len(works))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(max(a.option.Parallel, 1))
	for n, w := range works {
		group.Go(func() error {
			var err error
			infos[n], err = a.blobInfo(groupCtx, w, sinks[w])
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, a.cause(err)
	}
	results := make(map[string]ftypes.BlobInfo, len(works))
	for n, w := range works {
		results[w.key] = infos[n]
	}
	return results, a.failures.err()
}

// cause prefers the reads that failed to the error that an analyzer made of
// them.
func (a *Artifact) cause(err error) error {
	if failed := a.failures.err(); failed != nil {
		return failed
	}
	return err
}

// itemsOf lists the files of a slice that are still to be read once its package
// databases are known.
func (a *Artifact) itemsOf(w *work, s *slicesinks) []item {
	var items []item
	for n := range w.files {
		f := &w.files[n]
		want := f.want.withoutDatabase()
		sink, system := s.shown, w.database.trusted
		if f.seen != shown {
			sink, system = s.hidden[f.seen], w.database.claimed
		}
		// What only finds an application in this very file, which the handler
		// then drops, is not run.
		if want.onlyHead() && a.dropsSystemFiles() && system.has(f.path) {
			continue
		}
		if want.any() {
			items = append(items, item{file: &f.file, want: want, sink: sink})
		}
		a.read++
	}
	return items
}

// store puts all results at once, after everything has been read.
func (a *Artifact) store(ctx context.Context, imageKey string, missingImage bool, results map[string]ftypes.BlobInfo) error {
	for _, w := range a.works {
		info, ok := results[w.key]
		if !ok {
			continue
		}
		if err := a.cache.PutBlob(ctx, w.key, info); err != nil {
			return fmt.Errorf("put the result of layer %d into the cache: %w", w.layer+1, err)
		}
	}
	if !missingImage {
		return nil
	}
	found, err := a.foundOS(ctx, results)
	if err != nil {
		return err
	}
	info := a.artifactInfo(ctx, found)
	if err := a.cache.PutArtifact(ctx, imageKey, info); err != nil {
		return fmt.Errorf("put the result of the image's config into the cache: %w", err)
	}
	return nil
}

// foundOS is the operating system, which analyzers of the image's config ask
// for. Layers that were scanned before are looked up in the cache, so that it
// does not matter which were; only a Trivy server's cache cannot be read.
func (a *Artifact) foundOS(ctx context.Context, results map[string]ftypes.BlobInfo) (found ftypes.OS, err error) {
	local, readable := a.cache.(cache.LocalArtifactCache)
	for _, w := range a.works {
		info, fresh := results[w.key]
		if !fresh && readable {
			if info, err = local.GetBlob(ctx, w.key); err != nil {
				return found, fmt.Errorf("get the result of layer %d from the cache: %w", w.layer+1, err)
			}
		}
		found.Merge(info.OS)
	}
	return found, nil
}

// hash is a digest as Trivy spells it.
func hash(h v1.Hash) string { return h.String() }

func (o *Options) warn(line string) {
	if o.Warn != nil {
		o.Warn(line)
	}
}
