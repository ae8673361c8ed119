package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/aquasecurity/trivy/pkg/commands/operation"
	"github.com/aquasecurity/trivy/pkg/flag"
	"github.com/aquasecurity/trivy/pkg/types"
)

// many says whether several images are asked for: then there is one JSON report
// a line, even if there is only one image in the end.
func (o *nydusOptions) many(args []string) bool { return len(args) > 1 || o.refsFrom != "" }

// targets lists the images to scan: arguments, then the lines of --refs-from
// without comments and empty ones, or --input.
func targets(options flag.Options, ours nydusOptions, args []string) ([]string, error) {
	list := args
	if options.Input != "" {
		list = append([]string{options.Input}, list...)
	}
	if ours.refsFrom == "" {
		return list, nil
	}
	file := os.Stdin
	if ours.refsFrom != "-" {
		var err error
		if file, err = os.Open(ours.refsFrom); err != nil {
			return nil, usage("--refs-from: %w", err)
		}
		defer file.Close()
	}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		line, _, _ := strings.Cut(lines.Text(), "#")
		if line = strings.TrimSpace(line); line != "" {
			list = append(list, line)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, usage("--refs-from %s: %w", ours.refsFrom, err)
	}
	if len(list) == 0 {
		return nil, usage("--refs-from %s names no image", ours.refsFrom)
	}
	return list, nil
}

// An incompleteError says that some of several images were not scanned.
type incompleteError struct{ failed, all int }

func (e *incompleteError) Error() string {
	return fmt.Sprintf("%d of %d images could not be scanned", e.failed, e.all)
}

// scanMany scans one image after the other. A failure is told at once and does
// not stop the rest; the highest exit code counts.
func (s *session) scanMany(ctx context.Context, options flag.Options, targets []string, stdout io.Writer) (err error) {
	out, err := openOutput(options.Output, stdout)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	evidence, err := openOutput(s.ours.evidence, io.Discard)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, evidence.Close()) }()

	failed, worst := 0, 0
	var findings error
	for _, target := range targets {
		err := s.scanToLine(ctx, options, target, out, evidence)
		var exit *types.ExitError
		switch {
		case errors.As(err, &exit):
			if exit.Code > worst {
				worst, findings = exit.Code, err
			}
		case ctx.Err() != nil, errors.Is(err, errStuck):
			return err
		case err != nil:
			failed++
			fmt.Fprintf(s.stderr, "%s: %s\n", oneLine(target), explain(err))
		}
	}
	if failed > 0 {
		return &incompleteError{failed, len(targets)}
	}
	return findings
}

// scanToLine scans one image and writes its report as one line.
func (s *session) scanToLine(ctx context.Context, options flag.Options, target string, out, evidence io.Writer) error {
	ctx, cancel := withTimeout(ctx, "the scan", options.Timeout)
	defer cancel()
	report, service, err := s.scan(ctx, options, target)
	defer service.close()
	if err != nil {
		return err
	}
	if service.artifact != nil {
		if err := writeEvidenceLine(evidence, service.evidence()); err != nil {
			return err
		}
	}
	line, err := s.reportLine(ctx, options, report)
	if err != nil {
		return err
	}
	if _, err := out.Write(line); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	service.closingLine()
	return operation.Exit(options, report.Results.Failed(), report.Metadata)
}

// reportLine is the report without its line breaks.
func (s *session) reportLine(ctx context.Context, options flag.Options, report types.Report) ([]byte, error) {
	indented, err := s.reportText(ctx, options, report)
	if err != nil {
		return nil, err
	}
	var line bytes.Buffer
	if err := json.Compact(&line, indented); err != nil {
		return nil, fmt.Errorf("write the report: %w", err)
	}
	line.WriteByte('\n')
	return line.Bytes(), nil
}

// openOutput creates a file, or takes the stream where no name is given.
func openOutput(name string, stream io.Writer) (io.WriteCloser, error) {
	if name == "" {
		return nopCloser{stream}, nil
	}
	file, err := os.Create(name)
	if err != nil {
		return nil, usage("create the output: %w", err)
	}
	return file, nil
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }
