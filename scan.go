package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/viper"

	"github.com/aquasecurity/trivy/pkg/commands/artifact"
	"github.com/aquasecurity/trivy/pkg/commands/operation"
	"github.com/aquasecurity/trivy/pkg/extension"
	"github.com/aquasecurity/trivy/pkg/flag"
	"github.com/aquasecurity/trivy/pkg/log"
	"github.com/aquasecurity/trivy/pkg/types"
)

func newCobra() *cobra.Command {
	return &cobra.Command{SilenceErrors: true, SilenceUsage: true}
}

// scan runs `trivy nydus scan`: Trivy's flags, read as Trivy reads them, and
// ours.
func scan(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	cmd := newScanCommand(stderr)
	cmd.SetArgs(args)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	return cmd.ExecuteContext(ctx)
}

func newScanCommand(stderr io.Writer) *cobra.Command {
	globals := flag.NewGlobalFlagGroup()
	ours := newNydusFlagGroup()
	flags := imageFlags(globals, ours)
	cmd := newCobra()
	cmd.Use = "trivy nydus [scan] [flags] IMAGE"
	cmd.Short = "Scan a Nydus image"
	cmd.Long = "Scan a Nydus image in a registry, or in an OCI layout folder (a path that begins with \".\" or is absolute)."
	cmd.Example = `  # Scan a Nydus image
  $ trivy nydus registry.example.com/app:nydus

  # Fail a pipeline on findings
  $ trivy nydus --severity HIGH,CRITICAL --exit-code 1 registry.example.com/app:nydus

  # Write down what was read and what it was verified against
  $ trivy nydus --evidence evidence.json registry.example.com/app:nydus`
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := readConfiguration(cmd, globals); err != nil {
			return err
		}
		if err := flags.Bind(cmd); err != nil {
			return usage("read the flags: %w", err)
		}
		options, err := flags.ToOptions(args)
		if err != nil {
			return usage("read the flags: %w", err)
		}
		return runScan(cmd.Context(), options, ours.options(), args, stderr)
	}
	globals.AddFlags(cmd)
	flags.AddFlags(cmd)
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage("%w", err) })
	cmd.SetUsageTemplate(usageTemplate(flags.Usages(cmd)))
	return cmd
}

// imageFlags are the flag groups of `trivy image` (pkg/commands/app.go,
// NewImageCommand) with the same exceptions, and our own.
func imageFlags(globals *flag.GlobalFlagGroup, ours *nydusFlagGroup) flag.Flags {
	report := flag.NewReportFlagGroup()
	format := flag.ReportFormatFlag.Clone()
	format.Default = "summary"
	format.Usage = "specify a format for the compliance report."
	report.ReportFormat = format
	compliance := flag.ComplianceFlag.Clone()
	compliance.Usage = fmt.Sprintf("%s (built-in compliance's: %s)", compliance.Usage, types.ComplianceDockerCIS160)
	report.Compliance = compliance

	packages := flag.NewPackageFlagGroup()
	packages.IncludeDevDeps = nil
	misconf := flag.NewMisconfFlagGroup()
	misconf.CloudformationParamVars = nil
	misconf.TerraformTFVars = nil

	return flag.Flags{
		globals,
		ours,
		flag.NewCacheFlagGroup(),
		flag.NewDBFlagGroup(),
		flag.NewImageFlagGroup(),
		flag.NewLicenseFlagGroup(),
		misconf,
		flag.NewModuleFlagGroup(),
		packages,
		flag.NewClientFlags(),
		flag.NewRegistryFlagGroup(),
		flag.NewRegoFlagGroup(),
		report,
		flag.NewScanFlagGroup(),
		flag.NewSecretFlagGroup(),
		flag.NewVulnerabilityFlagGroup(),
	}
}

// readConfiguration binds the global flags, reads trivy.yaml and starts the
// log, as Trivy's root command does.
func readConfiguration(cmd *cobra.Command, globals *flag.GlobalFlagGroup) error {
	if err := globals.Bind(cmd); err != nil {
		return usage("read the global flags: %w", err)
	}
	name := viper.GetString(flag.ConfigFileFlag.ConfigName)
	viper.SetConfigFile(name)
	viper.SetConfigType("yaml")
	if err := viper.ReadInConfig(); err != nil {
		chosen := cmd.Flags().Changed(flag.ConfigFileFlag.ConfigName)
		if chosen || !errors.Is(err, os.ErrNotExist) {
			return usage("read the configuration file %q: %w", name, err)
		}
	}
	flags := flag.Flags{globals}
	options, err := flags.ToOptions(nil)
	if err != nil {
		return usage("read the global flags: %w", err)
	}
	log.InitLogger(options.Debug, options.Quiet)
	return nil
}

// runScan does what `trivy image` does with its options, with our artifact in
// place of Trivy's.
func runScan(ctx context.Context, options flag.Options, ours nydusOptions, args []string, stderr io.Writer) (err error) {
	started := time.Now()
	if options.ShowVersion {
		return printVersion(os.Stdout)
	}
	if options.GenerateDefaultConfig {
		return writeDefaultConfig()
	}
	if err := checkOptions(options, ours, args); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, options.Timeout,
		fmt.Errorf("the scan took longer than %v (--timeout): %w", options.Timeout, context.DeadlineExceeded))
	defer cancel()

	if err := extension.PreRun(ctx, options); err != nil {
		return fmt.Errorf("before the scan: %w", err)
	}
	service := newService(options, ours, stderr)
	defer service.close()
	runner, err := artifact.NewRunner(ctx, options, artifact.TargetContainerImage, artifact.WithInitializeService(service.initialize))
	if errors.Is(err, artifact.SkipScan) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("start Trivy: %w", timedOut(ctx, err))
	}
	defer func() { err = errors.Join(err, runner.Close(ctx)) }()

	report, err := runner.ScanImage(ctx, options)
	if err != nil {
		return timedOut(ctx, err)
	}
	if report, err = runner.Filter(ctx, options, report); err != nil {
		return timedOut(ctx, err)
	}
	// What was read is written down before the report, so that there is no
	// report without it.
	if err := service.finish(time.Since(started)); err != nil {
		return err
	}
	if err := runner.Report(ctx, options, report); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	service.closingLine(time.Since(started))
	if err := extension.PostRun(ctx, options); err != nil {
		return fmt.Errorf("after the scan: %w", err)
	}
	return operation.Exit(options, report.Results.Failed(), report.Metadata)
}

// checkOptions refuses what cannot work, before anything is downloaded.
func checkOptions(options flag.Options, ours nydusOptions, args []string) error {
	noScan := options.DownloadDBOnly || options.DownloadJavaDBOnly
	switch {
	case options.ExitCode == exitIncomplete || options.ExitOnEOL == exitIncomplete:
		return usage("exit code %d says that a scan could not be completed: choose another for --exit-code and --exit-on-eol", exitIncomplete)
	case ours.mount == mountNydusd:
		return usage("--mount nydusd is not there yet: leave it out to read the image natively")
	case !slices.Contains([]string{mountNative, mountNydusd}, ours.mount):
		return usage("--mount %s: only native is there", ours.mount)
	case len(args) == 0 && options.Input == "" && !noScan:
		return usage("name an image to scan: trivy nydus [flags] IMAGE (see trivy nydus scan --help)")
	case len(args) > 1:
		return usage("one image at a time, got %d: %v", len(args), args)
	case len(options.SBOMSources) > 0:
		return usage("--sbom-sources is not supported for Nydus images yet")
	}
	if options.ServerAddr != "" && options.Scanners.AnyEnabled(types.MisconfigScanner, types.SecretScanner) {
		log.Warn("Misconfigurations and secrets are looked for on the client's side, not by the server")
	}
	return nil
}

// timedOut says that the time was up where that is why something failed.
func timedOut(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return context.Cause(ctx)
	}
	return err
}

// writeDefaultConfig is Trivy's --generate-default-config.
func writeDefaultConfig() error {
	hidden := flag.HiddenFlags()
	out := viper.New()
	for _, key := range viper.AllKeys() {
		if key != flag.GenerateDefaultConfigFlag.ConfigName && key != flag.ComplianceFlag.ConfigName && !slices.Contains(hidden, key) {
			out.Set(key, viper.Get(key))
		}
	}
	if err := out.SafeWriteConfigAs("trivy-default.yaml"); err != nil {
		return usage("write trivy-default.yaml: %w", err)
	}
	return nil
}
