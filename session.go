package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/aquasecurity/trivy/pkg/cache"
	tartifact "github.com/aquasecurity/trivy/pkg/commands/artifact"
	fartifact "github.com/aquasecurity/trivy/pkg/fanal/artifact"
	"github.com/aquasecurity/trivy/pkg/flag"
	"github.com/aquasecurity/trivy/pkg/misconf"
	tscan "github.com/aquasecurity/trivy/pkg/scan"
	"github.com/aquasecurity/trivy/pkg/types"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/artifact"
)

// A session is one call of the command: what the scans of its images share.
type session struct {
	ours   nydusOptions
	stderr io.Writer
	runner tartifact.Runner

	// current is the image that is being scanned: Trivy's runner asks for its
	// service in the middle of a scan.
	current   *service
	analyzers *artifact.Analyzers
	misconf   *misconf.ScannerOption // nil until it is needed
	// compileChecks returns the options of the misconfiguration scanners with the
	// compiled checks, empty ones where there is no such scanner. It compiles once.
	compileChecks func() (misconf.ScannerOption, error)
	// rawChecks says whether a check could be about JSON and YAML as such. It looks once.
	rawChecks  func() bool
	cache      cache.Cache
	closeCache func()

	transportsMu sync.Mutex
	transports   map[string]http.RoundTripper // by registry
}

// newSession starts Trivy's runner, which downloads and opens databases. It
// returns [tartifact.SkipScan] where nothing is to be scanned.
func newSession(ctx context.Context, options flag.Options, ours nydusOptions, targets []string, stderr io.Writer) (*session, error) {
	s := &session{ours: ours, stderr: stderr}
	s.compileChecks = sync.OnceValues(s.compileMisconf)
	s.rawChecks = sync.OnceValue(func() bool { return s.misconf != nil && aboutRaw(*s.misconf) })
	runner, err := tartifact.NewRunner(ctx, databaseOptions(options, targets...), tartifact.TargetContainerImage,
		tartifact.WithInitializeService(func(ctx context.Context, config tartifact.ScannerConfig) (tscan.Service, func(), error) {
			return s.current.initialize(ctx, config)
		}))
	if err != nil {
		return nil, fmt.Errorf("start Trivy: %w", err)
	}
	s.runner = runner
	return s, nil
}

// close ends the session.
func (s *session) close(ctx context.Context) error {
	if s.closeCache != nil {
		s.closeCache()
	}
	return s.runner.Close(ctx)
}

// scan scans one image and filters its report. The service, which must be
// closed, knows what was read.
func (s *session) scan(ctx context.Context, options flag.Options, target string) (types.Report, *service, error) {
	options.Target = target
	s.current = &service{session: s, options: options, started: time.Now()}
	var report types.Report
	err := endsWith(ctx, func() (err error) {
		if report, err = s.runner.ScanImage(ctx, withoutMisconf(options)); err == nil {
			report, err = s.runner.Filter(ctx, options, report)
		}
		return err
	})
	s.current.meter.stop()
	if errors.Is(err, errStuck) {
		// What is left behind has the image still. It ends with the process, and nydusd
		// with that.
		return types.Report{}, &service{session: s, options: options}, inTime(ctx, err)
	}
	// Before the report: what is left behind is told by exit code 2, which says that there
	// is none.
	if left := s.current.unmount(); left != nil {
		var inner ourError
		if errors.As(err, &inner) {
			err = inner.error
		}
		err = errors.Join(err, left)
	}
	if err != nil {
		return types.Report{}, s.current, inTime(ctx, err)
	}
	return report, s.current, nil
}

// analyzersFor makes the analyzers, once: they are global to the process.
func (s *session) analyzersFor(option fartifact.Option) (*artifact.Analyzers, error) {
	if s.analyzers != nil {
		return s.analyzers, nil
	}
	var err error
	s.analyzers, err = artifact.NewAnalyzers(option, s.compileChecks)
	return s.analyzers, err
}

// openCache opens the scan cache, once: one in memory is worth nothing
// otherwise.
func (s *session) openCache(option cache.Options) (cache.Cache, error) {
	if s.cache != nil {
		return s.cache, nil
	}
	var err error
	s.cache, s.closeCache, err = artifact.OpenCache(option)
	return s.cache, err
}
