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
	checks   checks
}

// NewAnalyzers makes the analyzers for Trivy's options. They can tell which
// files they want, their versions, and analyze files one by one. checks completes
// the options of the misconfiguration scanners, which takes seconds the first time
// and must give the same each time: it is called when something turns up that a check
// could be about, on a goroutine of its own.
func NewAnalyzers(option artifact.Option, checks func() (misconf.ScannerOption, error)) (*Analyzers, error) {
	handlers, err := handler.NewManager(option)
	if err != nil {
		return nil, fmt.Errorf("start handlers: %w", err)
	}
	a := &Analyzers{handlers: handlers, option: option}
	a.checks.compile = checks
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
