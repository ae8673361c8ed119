package artifact

import (
	"context"
	"path"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/aquasecurity/trivy/pkg/dependency/parser/python/packaging"
	"github.com/aquasecurity/trivy/pkg/fanal/analyzer"
	ansible "github.com/aquasecurity/trivy/pkg/iac/scanners/ansible/parser"
	"github.com/aquasecurity/trivy/pkg/licensing"
	"github.com/aquasecurity/trivy/pkg/mapfs"
	xio "github.com/aquasecurity/trivy/pkg/x/io"
)

// A doubt is about an analyzer that asks for many files and opens few of them:
// what it opens in any case tells which. The other files are doubtful. They are
// read last, those that the analyzer will open.
type doubt struct {
	about analyzer.Type
	// certain says whether a file may be opened whatever the others say.
	certain func(name string) bool
	// opened tells which of the doubtful files are opened; nil is no file at all, not
	// even a certain one. files has all others that the analyzer asked for; it may be
	// written to.
	opened func(files *mapfs.FS, doubtful []string) (func(name string) bool, error)
}

// doubts follow Trivy 0.74. More than is opened may be read, never less.
var doubts = []doubt{
	{
		// Of ansible any file without an extension may be a part. Its scanner
		// (pkg/iac/scanners/ansible) looks for projects first, by the names of
		// all files and in playbooks, and opens nothing where there are none.
		about:   analyzer.TypeAnsible,
		certain: func(name string) bool { return slices.Contains([]string{".yml", ".yaml"}, path.Ext(name)) },
		opened:  ofAnsible,
	},
	{
		// Of the folder that describes a Python package, its analyzer
		// (pkg/fanal/analyzer/language/python/packaging) opens the metadata and the
		// file that these name as the license.
		about: analyzer.TypePythonPkg,
		certain: func(name string) bool {
			return path.Base(name) == "METADATA" || strings.Contains(name, ".egg-info") || strings.Contains(name, "EGG-INFO")
		},
		opened: ofPython,
	},
}

// doubt returns what is to be asked before the file is given to the analyzers that
// look at files together; nil if they get it in any case, or none wants it.
func (a *Artifact) doubt(f *wantedFile) *doubt {
	if len(f.want.post) != 1 {
		return nil // another one wants it, too
	}
	for n := range doubts {
		d := &doubts[n]
		if d.about == f.want.post[0] && !d.certain(f.path) && !a.hasPattern(d.about) {
			return d
		}
	}
	return nil
}

// hasPattern says whether the user names files for an analyzer: then it may open
// others than it does by itself.
func (a *Artifact) hasPattern(t analyzer.Type) bool {
	return slices.ContainsFunc(a.option.FilePatterns, func(pattern string) bool { return strings.HasPrefix(pattern, string(t)+":") })
}

// doubtfulItems lists the doubtful files that are to be read, once all others have
// been put into the sinks.
func (a *Artifact) doubtfulItems(ctx context.Context, works []*work, sinks map[*work]*slicesinks) ([]item, error) {
	type question struct {
		*doubt
		sink *sink
	}
	doubtful := make(map[question][]*wantedFile)
	for _, w := range works {
		for n := range w.files {
			f := &w.files[n]
			if d := a.doubt(f); d != nil {
				q := question{d, sinks[w].of(f.seen)}
				doubtful[q] = append(doubtful[q], f)
			}
		}
	}
	found := make(chan []item, len(doubtful))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(max(a.option.Parallel, 1))
	for q, files := range doubtful {
		group.Go(func() error {
			names := make([]string, len(files))
			for n, f := range files {
				names[n] = f.path
			}
			opened, err := q.opened(q.sink.files(q.about), names)
			if err != nil {
				return err
			}
			if opened == nil {
				q.sink.composite.Set(q.about, mapfs.New())
				return nil
			}
			var items []item
			for _, f := range files {
				if opened(f.path) {
					f.read = true
					items = append(items, item{file: &f.file, want: demand{post: f.want.post}, sink: q.sink})
				}
			}
			found <- items
			return context.Cause(ctx)
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	close(found)
	var all []item
	for items := range found {
		all = append(all, items...)
	}
	return all, nil
}

// ofAnsible says that all files may be opened where there is a project.
func ofAnsible(files *mapfs.FS, doubtful []string) (func(string) bool, error) {
	for _, name := range doubtful {
		if err := writeVirtual(files, name, nil); err != nil {
			return nil, err
		}
	}
	projects, err := ansible.FindProjects(files, ".")
	if err != nil || len(projects) > 0 {
		return func(string) bool { return true }, nil // the scanner meets the same error
	}
	return nil, nil
}

// ofPython says that the licenses which the metadata beside them name are opened.
func ofPython(files *mapfs.FS, doubtful []string) (func(string) bool, error) {
	licenses := make(map[string]bool)
	looked := make(map[string]bool)
	for _, name := range doubtful {
		folder := path.Dir(name)
		if looked[folder] {
			continue
		}
		looked[folder] = true
		entries, err := files.ReadDir(folder)
		if err != nil {
			continue // there are no metadata
		}
		for _, e := range entries {
			if e.IsDir() {
				continue
			}
			for _, license := range licenseFiles(files, path.Join(folder, e.Name())) {
				licenses[path.Join(folder, license)] = true
			}
		}
	}
	return func(name string) bool { return licenses[name] }, nil
}

// licenseFiles are the license files that a Python package's metadata name. Of metadata
// that cannot be read Trivy opens none.
func licenseFiles(files *mapfs.FS, metadata string) []string {
	f, err := files.Open(metadata)
	if err != nil {
		return nil
	}
	defer f.Close()
	r, ok := f.(xio.ReadSeekerAt)
	if !ok {
		return nil
	}
	packages, _, err := packaging.NewParser().Parse(context.Background(), r)
	if err != nil {
		return nil
	}
	var names []string
	for _, p := range packages {
		for _, license := range p.Licenses {
			if name, is := strings.CutPrefix(license, licensing.LicenseFilePrefix); is {
				names = append(names, path.Base(name))
			}
		}
	}
	return names
}
