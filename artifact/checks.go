package artifact

import (
	"io"
	"path"
	"slices"
	"sync/atomic"

	"github.com/aquasecurity/trivy/pkg/fanal/analyzer"
	"github.com/aquasecurity/trivy/pkg/iac/detection"
	"github.com/aquasecurity/trivy/pkg/mapfs"
	"github.com/aquasecurity/trivy/pkg/misconf"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/projects"
)

// checks are the misconfiguration checks. To compile them takes seconds, so that it is
// done beside the reading of files, once something has turned up that a check could be
// about: in many images nothing is.
type checks struct {
	// compile gives the options of the misconfiguration scanners with their checks;
	// nil once the groups of analyzers have them.
	compile func() (misconf.ScannerOption, error)
	needed  atomic.Bool
}

// need begins to compile the checks. Nobody has to wait for it: what is compiled serves
// the next image.
func (c *checks) need() {
	if c.compile != nil && !c.needed.Swap(true) {
		go c.compile()
	}
}

// complete makes the analyzers ready for all that they do: those that look at files
// together, and at the image's config, need the compiled checks, if there is anything to
// be checked. Making the groups anew writes global state, so that no file may be under
// analysis.
func (a *Analyzers) complete() error {
	if a.checks.compile == nil || !a.checks.needed.Load() {
		return nil
	}
	compiled, err := a.checks.compile()
	if err != nil {
		return err
	}
	a.checks.compile = nil
	return a.start(compiled)
}

// lookFor needs the checks if a file that is given to analyzers may be what one is
// about: their scanners look at no other (filterFS in pkg/misconf of Trivy), and
// evaluate no check where there is none.
func (a *Artifact) lookFor(name string, given []analyzer.Type, open func() (io.ReadSeekCloser, error)) error {
	if a.checks.compile == nil || a.checks.needed.Load() {
		return nil
	}
	for _, t := range given {
		if !slices.Contains(analyzer.TypeConfigFiles, t) || a.our.Projects != nil && projects.Leads(t) {
			continue // or it is scanned apart, by checks that are compiled there
		}
		about, err := a.isAbout(t, name, open)
		if err != nil {
			return err
		}
		if about {
			a.checks.need()
			return nil
		}
	}
	return nil
}

// isAbout says whether the scanner of an analyzer would come to evaluate checks.
func (a *Artifact) isAbout(t analyzer.Type, name string, open func() (io.ReadSeekCloser, error)) (bool, error) {
	switch {
	case a.hasPattern(t):
		return true, nil
	case (t == analyzer.TypeJSON || t == analyzer.TypeYAML) && a.our.RawChecks != nil && !a.our.RawChecks():
		return false, nil
	case t == analyzer.TypeHelm && !detection.IsArchive(name) && path.Base(name) != "Chart.yaml":
		return false, nil // its scanner locates charts first
	}
	r, err := open()
	if err != nil {
		return false, err
	}
	defer r.Close()
	return detection.IsType(name, r, detection.FileType(t)), nil
}

// dropUnchecked takes from a sink what nothing is checked of: without compiled checks a
// scanner would compile them for itself.
func (a *Artifact) dropUnchecked(s *sink) {
	if a.checks.compile == nil {
		return
	}
	for _, t := range analyzer.TypeConfigFiles {
		if _, some := s.composite.Get(t); some {
			s.composite.Set(t, mapfs.New())
		}
	}
}

// checksConfig says whether a check could be about the image's config.
func (a *Artifact) checksConfig() bool {
	return !slices.Contains(a.option.DisabledAnalyzers, analyzer.TypeHistoryDockerfile)
}
