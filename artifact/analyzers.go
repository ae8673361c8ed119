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
	checks   func() (misconf.ScannerOption, error) // nil once they are compiled
}

// NewAnalyzers makes the analyzers for Trivy's options. They can tell which
// files they want, and their versions. checks completes the options of the
// misconfiguration scanners, which takes seconds: it is called before the first
// file is analyzed.
func NewAnalyzers(option artifact.Option, checks func() (misconf.ScannerOption, error)) (*Analyzers, error) {
	handlers, err := handler.NewManager(option)
	if err != nil {
		return nil, fmt.Errorf("start handlers: %w", err)
	}
	a := &Analyzers{handlers: handlers, option: option, checks: checks}
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

// compile makes the analyzers ready to analyze.
func (a *Analyzers) compile() error {
	if a.checks == nil {
		return nil
	}
	checks, err := a.checks()
	if err != nil {
		return err
	}
	a.checks = nil
	return a.start(checks)
}
