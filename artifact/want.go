package artifact

import (
	"context"
	"errors"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/aquasecurity/trivy/pkg/fanal/analyzer"
	"github.com/aquasecurity/trivy/pkg/semaphore"
	xio "github.com/aquasecurity/trivy/pkg/x/io"
)

// packageDatabases are the analyzers that read the package databases of an
// operating system. They run first: what they list decides what else is read.
var packageDatabases = []analyzer.Type{analyzer.TypeApk, analyzer.TypeRpm, analyzer.TypeRpmqa, analyzer.TypeDpkg}

// headReaders read the head of a file and, of executables, some parts.
var headReaders = []analyzer.Type{analyzer.TypeGoBinary, analyzer.TypeRustBinary}

// A demand is what the enabled analyzers want of a file.
type demand struct {
	single   bool // some analyzer reads the file by itself
	database bool // of these, a package database's
	head     bool // some of these read parts only
	secrets  bool // the secret scanner is one of them
	whole    bool // some other one reads all of it
	post     []analyzer.Type
}

func (d *demand) any() bool { return d.single || len(d.post) > 0 }

// onlyHead says that nothing but the analyzers of executables wants the file.
func (d *demand) onlyHead() bool {
	return d.head && !d.whole && !d.secrets && !d.database && len(d.post) == 0
}

// A desk asks analyzers what they want, without running any.
type desk struct {
	group   analyzer.AnalyzerGroup
	enabled []analyzer.Type
	limit   *semaphore.Weighted
}

func newDesk(group analyzer.AnalyzerGroup) *desk {
	var enabled []analyzer.Type
	versions := group.AnalyzerVersions()
	for name := range versions.Analyzers {
		enabled = append(enabled, analyzer.Type(name))
	}
	for name := range versions.PostAnalyzers {
		enabled = append(enabled, analyzer.Type(name))
	}
	slices.Sort(enabled)
	return &desk{group: group, enabled: enabled, limit: semaphore.New(1)}
}

// errWanted is how an analyzer's wish shows: AnalyzeFile opens a file for the
// first analyzer that requires it, and gives up when that fails.
var errWanted = errors.New("wanted")

// asks says whether any enabled analyzer but those in without wants the file.
func (d *desk) asks(f *file, without []analyzer.Type) bool {
	opener := func() (xio.ReadSeekCloserAt, error) { return nil, errWanted }
	err := d.group.AnalyzeFile(context.Background(), new(errgroup.Group), d.limit, nil, "",
		f.path, f.inode.FileInfo(f.path), opener, without, analyzer.AnalysisOptions{})
	return errors.Is(err, errWanted)
}

// allBut lists the enabled analyzers other than the given ones.
func (d *desk) allBut(types ...analyzer.Type) []analyzer.Type {
	var others []analyzer.Type
	for _, t := range d.enabled {
		if !slices.Contains(types, t) {
			others = append(others, t)
		}
	}
	return others
}

// hiddenReaders are the analyzers that see a file which another has replaced:
// those of packages, so that a package is counted to the layer that first
// brought it, and those of licenses and misconfigurations, since Trivy forgets
// what it found under a path only where it finds something else there. They may
// only add, so neither the operating system nor its repositories and builds are
// taken from a hidden file.
func (d *desk) hiddenReaders() []analyzer.Type {
	adding := slices.Concat(packageDatabases, analyzer.TypeLanguages, analyzer.TypeConfigFiles,
		[]analyzer.Type{analyzer.TypeDpkgLicense, analyzer.TypeLicenseFile})
	var readers []analyzer.Type
	for _, t := range d.enabled {
		if slices.Contains(adding, t) {
			readers = append(readers, t)
		}
	}
	return readers
}

// demand asks for one file. disabled analyzers are not asked.
func (d *desk) demand(f *file, disabled []analyzer.Type) demand {
	var want demand
	without := func(types ...analyzer.Type) []analyzer.Type {
		return slices.Concat(disabled, types)
	}
	info := f.inode.FileInfo(f.path)
	for _, t := range d.group.RequiredPostAnalyzers(f.path, info) {
		if !slices.Contains(disabled, t) {
			want.post = append(want.post, t)
			want.database = want.database || slices.Contains(packageDatabases, t)
		}
	}
	want.single = d.asks(f, disabled)
	if !want.single {
		return want
	}
	want.whole = d.asks(f, without(slices.Concat(headReaders, []analyzer.Type{analyzer.TypeSecret})...))
	want.database = want.database || d.asks(f, without(d.allBut(packageDatabases...)...))
	want.head = d.asks(f, without(d.allBut(headReaders...)...))
	want.secrets = d.asks(f, without(d.allBut(analyzer.TypeSecret)...))
	return want
}
