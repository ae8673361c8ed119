package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/aquasecurity/trivy/pkg/flag"
	"github.com/aquasecurity/trivy/pkg/types"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/consistency"
)

// check runs `trivy nydus check`.
func check(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	err := execute(ctx, newCheckCommand(stdout, stderr), args, stdout, stderr)
	var different *types.ExitError
	if err == nil || errors.As(err, &different) {
		return err
	}
	return checkError{err}
}

func newCheckCommand(stdout, stderr io.Writer) *cobra.Command {
	globals := flag.NewGlobalFlagGroup()
	ours, nydusd, bound := newCheckFlagGroup(), newNydusdFlagGroup(), newBoundFlagGroup()
	image := &flag.ImageFlagGroup{Platform: flag.NewImageFlagGroup().Platform}
	progress := &flag.DBFlagGroup{NoProgress: flag.NewDBFlagGroup().NoProgress}
	trivys, own := flag.Flags{globals, image, progress, flag.NewRegistryFlagGroup()}, flag.Flags{ours, nydusd, bound}
	cmd := newCobra()
	cmd.Use = "trivy nydus check [flags] OCI-IMAGE NYDUS-IMAGE | INDEX | NYDUS-IMAGE"
	cmd.Short = "Compare a Nydus image with the OCI image it was made from"
	cmd.Long = "Compare a Nydus image with the OCI image it was made from: manifests, configs, all metadata and content of\n" +
		"all files. An index that holds both is compared with itself; a Nydus image alone is checked for what can be\n" +
		"known without the OCI image. Exit code 0: equal; 1: different; 2: it could not be completed."
	cmd.Example = `  # Compare an image with its conversion; the Nydus image's data is not downloaded
  $ trivy nydus check registry.example.com/app:1 registry.example.com/app:1-nydus

  # Read and verify every byte of its data, too
  $ trivy nydus check --data full registry.example.com/app:1 registry.example.com/app:1-nydus

  # Compare the two images of each platform in one index
  $ trivy nydus check --all-platforms registry.example.com/app:both`
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		options, err := readOptions(cmd, globals, trivys, own, nil)
		if err != nil {
			return err
		}
		values, err := ours.options()
		if err != nil {
			return err
		}
		if values.nydusd, err = nydusd.options(); err != nil {
			return err
		}
		if values.bounds, err = bound.options(); err != nil {
			return err
		}
		if err := values.checkArguments(options, args); err != nil {
			return err
		}
		return runCheck(cmd.Context(), options, values, args, stdout, stderr)
	}
	addFlags(cmd, globals, slices.Concat(own, trivys))
	return cmd
}

// runCheck compares all pairs of images and writes one report.
func runCheck(ctx context.Context, options flag.Options, ours checkFlags, args []string, stdout, stderr io.Writer) (err error) {
	source, target := args[0], args[len(args)-1]
	forSource, forTarget, err := ours.logins(options, source, target)
	if err != nil {
		return err
	}
	c := &checker{
		options: options, ours: ours, alone: len(args) == 1, stderr: stderr,
		source: newCheckSide(forSource, ours, source, stderr),
		target: newCheckSide(forTarget, ours, target, stderr),
	}
	started := time.Now()
	listing, cancel := withTimeout(ctx, "listing the platforms", options.Timeout)
	platforms, err := c.platforms(listing)
	cancel()
	if err != nil {
		return inTime(listing, err)
	}
	var pairs []*checkedPair
	for _, p := range platforms {
		pair := c.check(ctx, p)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var wrong usageError
		if errors.As(pair.err, &wrong) {
			return pair.err
		}
		pairs = append(pairs, pair)
	}
	out, err := openOutput(ours.output, stdout)
	if err != nil {
		return err
	}
	if err := errors.Join(writeCheck(out, pairs, ours, time.Since(started)), out.Close()); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return outcome(pairs)
}

// outcome is what the exit code tells: the worst of the pairs.
func outcome(pairs []*checkedPair) error {
	var failed []error
	different := false
	for _, pair := range pairs {
		switch pair.Verdict {
		case consistency.Incomplete:
			failed = append(failed, pair.err)
		case consistency.Different:
			different = true
		}
	}
	switch {
	case len(failed) > 1:
		return fmt.Errorf("%d of %d pairs could not be compared, the first: %w", len(failed), len(pairs), failed[0])
	case len(failed) == 1:
		return failed[0]
	case different:
		return &types.ExitError{Code: exitDifferent}
	}
	return nil
}
