package artifact

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aquasecurity/trivy/pkg/fanal/analyzer"
	ftypes "github.com/aquasecurity/trivy/pkg/fanal/types"
)

// systemFiles are the files that the package databases of an operating system
// list. Trivy's handler drops what analyzers find in these files, so what can
// find nothing else need not be read.
type systemFiles struct {
	// names are as the databases spell them: with a leading slash by dpkg and
	// rpm, without by apk. Trivy's post-analyzers skip the latter.
	names []string
	set   map[string]struct{} // without leading slash, as Trivy's handler compares
}

func newSystemFiles(names []string) systemFiles {
	s := systemFiles{names: names, set: make(map[string]struct{}, len(names))}
	for _, name := range names {
		s.set[strings.TrimPrefix(name, "/")] = struct{}{}
	}
	delete(s.set, "") // the root never counts
	return s
}

func (s systemFiles) has(path string) bool {
	_, ok := s.set[path]
	return ok
}

func (s systemFiles) and(other systemFiles) systemFiles {
	return newSystemFiles(slices.DeleteFunc(slices.Clone(s.names), func(name string) bool {
		return !other.has(strings.TrimPrefix(name, "/"))
	}))
}

// A database is what the package databases of one slice say.
type database struct {
	result *analyzer.AnalysisResult
	// claimed are the files that they list; those of hidden databases are among
	// them. What is found in a hidden file of these is dropped.
	claimed systemFiles
	// trusted are those of them that the databases which the image shows list
	// as well: only they drop what is found in a shown file, since the manifest
	// does not vouch for what is hidden.
	trusted systemFiles
}

// databases begins to analyze the package databases of the given slices; wait
// waits for them and puts what they say into the works. also are what other
// analyzers want of the same files, which are then read once.
func (a *Artifact) databases(ctx context.Context, works []*work, also []item) (wait func() error, err error) {
	var sinks []*sink
	cleanup := func() {
		for _, s := range sinks {
			_ = s.composite.Cleanup()
		}
	}
	items := also
	open := func(files []wantedFile, sees func(visibility) bool) (*analyzer.AnalysisResult, error) {
		s, err := a.newSink(a.desk.allBut(packageDatabases...))
		if err != nil {
			return nil, err
		}
		sinks = append(sinks, s)
		items = append(items, databaseItems(files, sees, s)...)
		return s.result, nil
	}
	defer func() {
		if err != nil {
			cleanup()
		}
	}()
	var whole *analyzer.AnalysisResult
	for _, w := range works {
		if w.database.result, err = open(w.files, func(visibility) bool { return true }); err != nil {
			return nil, err
		}
		if whole == nil && !w.vouched() {
			// Of the other slices only what the image shows.
			var all []wantedFile
			for _, any := range a.works {
				all = append(all, any.files...)
			}
			if whole, err = open(all, func(v visibility) bool { return v == shown }); err != nil {
				return nil, err
			}
		}
	}
	read := a.analyze(ctx, items)
	return func() error {
		defer cleanup()
		if err := read(); err != nil {
			return err
		}
		for _, s := range sinks {
			if err := a.group.PostAnalyze(ctx, s.composite, s.result, a.options()); err != nil {
				return fmt.Errorf("analyze package databases: %w", err)
			}
		}
		for _, w := range works {
			w.database.trust(w, whole)
		}
		return nil
	}, nil
}

// trust fills in which files the databases of a slice list. whole is the result of
// those that the image shows; nil where the manifest vouches for the slice's.
func (d *database) trust(w *work, whole *analyzer.AnalysisResult) {
	d.claimed = newSystemFiles(d.result.SystemInstalledFiles)
	switch {
	case w.vouched():
		d.trusted = d.claimed
	case w.tree:
		d.trusted = d.claimed.and(newSystemFiles(whole.SystemInstalledFiles))
	default:
		// The status file and the lists of files may lie in different slices.
		d.trusted = newSystemFiles(whole.SystemInstalledFiles)
	}
}

// databaseItems are the files of package databases among files.
func databaseItems(files []wantedFile, sees func(visibility) bool, s *sink) []item {
	var items []item
	for n := range files {
		if f := &files[n]; f.want.database && sees(f.seen) {
			items = append(items, item{file: &f.file, want: f.want.databaseOnly(), sink: s})
		}
	}
	return items
}

// vouched says whether the manifest vouches for all that the slice's own package
// databases say: none of their files is hidden.
func (w *work) vouched() bool {
	return w.tree && !slices.ContainsFunc(w.files, func(f wantedFile) bool { return f.want.database && f.seen != shown })
}

// databaseOnly is what the analyzers of package databases want.
func (d demand) databaseOnly() demand {
	only := demand{single: d.single, database: true}
	for _, t := range d.post {
		if slices.Contains(packageDatabases, t) {
			only.post = append(only.post, t)
		}
	}
	return only
}

// withoutDatabase is what the other analyzers want.
func (d demand) withoutDatabase() demand {
	d.database = false
	d.post = slices.DeleteFunc(slices.Clone(d.post), func(t analyzer.Type) bool { return slices.Contains(packageDatabases, t) })
	return d
}

// dropsSystemFiles says whether Trivy drops what is found in system files.
func (a *Artifact) dropsSystemFiles() bool {
	return !slices.Contains(a.option.DisabledHandlers, ftypes.SystemFileFilteringPostHandler)
}
