package artifact

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/aquasecurity/trivy/pkg/cache"
	"github.com/aquasecurity/trivy/pkg/fanal/analyzer"
	ftypes "github.com/aquasecurity/trivy/pkg/fanal/types"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

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
	read bool // it is given to analyzers
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

// filesAtOnce is how many files one goroutine asks analyzers about before it looks
// for more: some milliseconds.
const filesAtOnce = 1024

// chooseFiles keeps the files of a slice that some analyzer wants.
func (a *Artifact) chooseFiles(w *work) {
	name := a.choiceName(w)
	choices, known := a.recallChoices(name, len(w.slice.files))
	if !known {
		choices = a.choose(w)
		a.keepChoices(name, choices)
	}
	w.files = make([]wantedFile, len(choices))
	for n := range choices {
		c := &choices[n]
		w.files[n] = wantedFile{file: w.slice.files[c.file], want: c.want}
	}
	w.slice.files = nil
}

// choose asks the analyzers. Trivy asks about several layers at once too, so that
// analyzers can bear it.
func (a *Artifact) choose(w *work) []choice {
	var questions [deleted + 1]*questions
	for seen := range questions {
		questions[seen] = a.desk.questions(w.disabled(visibility(seen), a.desk))
	}
	parts := slices.Collect(slices.Chunk(w.slice.files, filesAtOnce))
	chosen := make([][]choice, len(parts))
	var group errgroup.Group
	group.SetLimit(max(a.option.Parallel, 1))
	for n, files := range parts {
		group.Go(func() error {
			for i := range files {
				if want := a.desk.demand(&files[i], questions[files[i].seen]); want.any() {
					chosen[n] = append(chosen[n], choice{file: n*filesAtOnce + i, want: want})
				}
			}
			return nil
		})
	}
	_ = group.Wait() // none fails
	return slices.Concat(chosen...)
}

// scan analyzes what the cache does not have.
func (a *Artifact) scan(ctx context.Context, works []*work) (map[string]ftypes.BlobInfo, error) {
	if len(works) == 0 {
		return nil, nil
	}
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
	}
	if err := a.readFiles(ctx, works, sinks); err != nil {
		return nil, a.cause(err)
	}
	if err := a.failures.err(); err != nil {
		return nil, err
	}
	if err := a.complete(); err != nil {
		return nil, err
	}
	a.forget()
	for _, w := range works {
		sinks[w].setSystemFiles(&w.database)
	}
	if err := a.scanProjects(ctx, works, sinks); err != nil {
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

// readFiles hands all files to the analyzers that look at them one by one, and copies
// to those that look at files together: first package databases, beside them what is
// read whatever these say, then the programs that they leave, at last what is doubtful.
func (a *Artifact) readFiles(ctx context.Context, works []*work, sinks map[*work]*slicesinks) error {
	group, groupCtx := errgroup.WithContext(ctx)
	var alsoDatabases, others []item
	for _, w := range works {
		for n := range w.files {
			f := &w.files[n]
			switch want := a.certain(f); {
			case a.isProgram(&want):
				continue
			case want.any() && f.want.database:
				alsoDatabases = append(alsoDatabases, item{file: &f.file, want: want, sink: sinks[w].of(f.seen)})
			case want.any():
				others = append(others, item{file: &f.file, want: want, sink: sinks[w].of(f.seen)})
			case !f.want.database:
				continue
			}
			f.read = true
		}
	}
	databases, err := a.databases(groupCtx, works, alsoDatabases)
	if err != nil {
		return err
	}
	group.Go(func() error {
		if err := databases(); err != nil {
			return err
		}
		var programs []item
		for _, w := range works {
			programs = append(programs, a.programItems(w, sinks[w])...)
		}
		return a.analyze(groupCtx, programs)()
	})
	group.Go(a.analyze(groupCtx, others))
	if err := group.Wait(); err != nil {
		return err
	}
	doubtful, err := a.doubtfulItems(ctx, works, sinks)
	if err != nil {
		return fmt.Errorf("choose the files that analyzers open: %w", err)
	}
	return a.analyze(ctx, doubtful)()
}

// certain is what is wanted of a file whatever others say, but for the package
// databases' analyzers.
func (a *Artifact) certain(f *wantedFile) demand {
	want := f.want.withoutDatabase()
	if a.doubt(f) != nil {
		want.post = nil
	}
	return want
}

// forget lets go of the image: analyzers that read files together have copies, and
// some take much memory.
func (a *Artifact) forget() {
	a.mount.Forget()
	for _, w := range a.works {
		for n := range w.files {
			f := &w.files[n].file
			f.inode, f.view = rafs.Inode{}, nil
		}
	}
}

// cause prefers the reads that failed to the error that an analyzer made of
// them.
func (a *Artifact) cause(err error) error {
	if failed := a.failures.err(); failed != nil {
		return failed
	}
	return err
}

// programItems lists the programs of a slice that are to be read, once its
// package databases are known.
func (a *Artifact) programItems(w *work, s *slicesinks) []item {
	var items []item
	for n := range w.files {
		f := &w.files[n]
		want := a.certain(f)
		system := w.database.trusted
		if f.seen != shown {
			system = w.database.claimed
		}
		if a.isProgram(&want) && !system.has(f.path) {
			items = append(items, item{file: &f.file, want: want, sink: s.of(f.seen)})
			f.read = true
		}
	}
	return items
}

// isProgram says whether what is wanted of a file can only find an application in
// this very file: the handler drops that if a package of the operating system
// brought the file, which is then not read.
func (a *Artifact) isProgram(want *demand) bool {
	return want.onlyHead() && a.dropsSystemFiles()
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
	if err := a.complete(); err != nil {
		return err
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
