package artifact

import (
	"context"
	"errors"
	"io/fs"
	"slices"

	"github.com/samber/lo"

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
func (d *desk) asks(f *file, info fs.FileInfo, without []analyzer.Type) bool {
	opener := func() (xio.ReadSeekCloserAt, error) { return nil, errWanted }
	err := d.group.AnalyzeFile(context.Background(), nil, d.limit, nil, "",
		f.path, info, opener, without, analyzer.AnalysisOptions{})
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

// questions are whom to leave out so that the desk's answer tells one thing: lists
// of analyzers, made once for many files. Asking is what planning a scan costs.
type questions struct {
	disabled []analyzer.Type
	// content leaves out the secret scanner, which wants nearly every file, and
	// those that are disabled. What remains wants few.
	content []analyzer.Type
	// Each is all but those that the demand's field of that name is about, and
	// those that are disabled.
	whole, head, secrets, database []analyzer.Type
	// scansSecrets says that the secret scanner is enabled.
	scansSecrets bool
}

// questions are those about files that the disabled analyzers do not see.
func (d *desk) questions(disabled []analyzer.Type) *questions {
	but := func(types ...analyzer.Type) []analyzer.Type {
		return lo.Union(d.allBut(types...), disabled)
	}
	content := lo.Union([]analyzer.Type{analyzer.TypeSecret}, disabled)
	return &questions{
		disabled:     disabled,
		content:      content,
		whole:        lo.Union(headReaders, content),
		head:         but(headReaders...),
		secrets:      but(analyzer.TypeSecret),
		database:     but(packageDatabases...),
		scansSecrets: slices.Contains(d.enabled, analyzer.TypeSecret) && !slices.Contains(disabled, analyzer.TypeSecret),
	}
}

// demand asks for one file. Each analyzer is asked once about a file that none
// wants but perhaps the secret scanner, which most are.
func (d *desk) demand(f *file, q *questions) demand {
	var want demand
	info := f.inode.FileInfo(f.path)
	for _, t := range d.group.RequiredPostAnalyzers(f.path, info) {
		if !slices.Contains(q.disabled, t) {
			want.post = append(want.post, t)
			want.database = want.database || slices.Contains(packageDatabases, t)
		}
	}
	if d.asks(f, info, q.content) {
		want.whole = d.asks(f, info, q.whole)
		want.head = !want.whole || d.asks(f, info, q.head)
	}
	want.secrets = q.scansSecrets && d.asks(f, info, q.secrets)
	want.single = want.whole || want.head || want.secrets
	want.database = want.database || want.whole && d.asks(f, info, q.database)
	return want
}
