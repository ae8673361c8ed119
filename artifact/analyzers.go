package artifact

import (
	"fmt"

	"github.com/aquasecurity/trivy/pkg/fanal/analyzer"
	"github.com/aquasecurity/trivy/pkg/fanal/artifact"
	"github.com/aquasecurity/trivy/pkg/fanal/handler"
	"github.com/aquasecurity/trivy/pkg/misconf"
)

// Analyzers are what runs over files and image configs. Making them writes
// state that is global to the process, so they are made once and shared.
type Analyzers struct {
	group    analyzer.AnalyzerGroup
	config   analyzer.ConfigAnalyzerGroup
	handlers handler.Manager
	option   artifact.Option
	// compiled gives the options of the misconfiguration scanners with their
	// checks; nil once the groups have them.
	compiled func() (misconf.ScannerOption, error)
}

// NewAnalyzers makes the analyzers for Trivy's options. They can tell which
// files they want, their versions, and analyze files one by one. checks completes
// the options of the misconfiguration scanners, which takes seconds the first time
// and must give the same each time: it is called when the first file is to be
// analyzed, on a goroutine of its own.
func NewAnalyzers(option artifact.Option, checks func() (misconf.ScannerOption, error)) (*Analyzers, error) {
	handlers, err := handler.NewManager(option)
	if err != nil {
		return nil, fmt.Errorf("start handlers: %w", err)
	}
	a := &Analyzers{handlers: handlers, option: option, compiled: checks}
	return a, a.start(misconf.ScannerOption{})
}

// start makes the groups of analyzers.
func (a *Analyzers) start(checks misconf.ScannerOption) (err error) {
	option := a.option
	option.MisconfScannerOption = checks
	if a.group, err = analyzer.NewAnalyzerGroup(option.AnalyzerOptions()); err != nil {
		return fmt.Errorf("start analyzers: %w", err)
	}
	if a.config, err = analyzer.NewConfigAnalyzerGroup(option.ConfigAnalyzerOptions()); err != nil {
		return fmt.Errorf("start analyzers of image configs: %w", err)
	}
	return nil
}

// compileAhead begins to compile the checks, beside the reading of files. Nobody
// has to wait for it: what is compiled serves the next image.
func (a *Analyzers) compileAhead() {
	if a.compiled != nil {
		go a.compiled()
	}
}

// complete makes the analyzers ready for all that they do. Only those that look
// at files together, and at the image's config, need the compiled checks. Making
// the groups anew writes global state, so that no file may be under analysis.
func (a *Analyzers) complete() error {
	if a.compiled == nil {
		return nil
	}
	checks, err := a.compiled()
	if err != nil {
		return err
	}
	a.compiled = nil
	return a.start(checks)
}
