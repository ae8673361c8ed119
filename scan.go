package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"

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
	return execute(ctx, newScanCommand(stdout, stderr), args, stdout, stderr)
}

// execute runs a command whose flags are read as Trivy reads its own.
func execute(ctx context.Context, cmd *cobra.Command, args []string, stdout, stderr io.Writer) error {
	cmd.SetArgs(args)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	return cmd.ExecuteContext(ctx)
}

func newScanCommand(stdout, stderr io.Writer) *cobra.Command {
	globals := flag.NewGlobalFlagGroup()
	ours := newNydusFlagGroup()
	nydusd, bound := newNydusdFlagGroup(), newScanBoundFlagGroup()
	trivys, own := imageFlags(globals), flag.Flags{ours, nydusd, bound}
	cmd := newCobra()
	cmd.Use = "trivy nydus [scan] [flags] IMAGE..."
	cmd.Short = "Scan a Nydus image"
	cmd.Long = "Scan a Nydus image in a registry, or in an OCI layout folder (a path that begins with \".\" or is absolute)."
	cmd.Example = `  # Scan a Nydus image
  $ trivy nydus registry.example.com/app:nydus

  # Fail a pipeline on findings
  $ trivy nydus --severity HIGH,CRITICAL --exit-code 1 registry.example.com/app:nydus

  # Write down what was read and what it was verified against
  $ trivy nydus --evidence evidence.json registry.example.com/app:nydus`
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		options, err := readOptions(cmd, globals, trivys, own, args)
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
		return runScan(cmd.Context(), options, values, args, stdout, stderr)
	}
	addFlags(cmd, globals, slices.Concat(flag.Flags{ours}, trivys, flag.Flags{nydusd, bound}))
	return cmd
}

// imageFlags are the flag groups of `trivy image` (pkg/commands/app.go,
// NewImageCommand) with the same exceptions.
func imageFlags(globals *flag.GlobalFlagGroup) flag.Flags {
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

// addFlags gives a command flags, and a help that lists those that are not global
// group by group.
func addFlags(cmd *cobra.Command, globals *flag.GlobalFlagGroup, flags flag.Flags) {
	globals.AddFlags(cmd)
	flags.AddFlags(cmd)
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage("%w", err) })
	cmd.SetUsageTemplate(usageTemplate(flags.Usages(cmd)))
}

// readOptions reads a command's flags, environment and trivy.yaml, the global ones
// first, Trivy's before our own: what it takes to read a flag grows with the number
// of those that are known, so that with ours among them Trivy's took twice the time.
// args are the images that Trivy's options name.
func readOptions(cmd *cobra.Command, globals *flag.GlobalFlagGroup, trivys, own flag.Flags, args []string) (flag.Options, error) {
	if err := readConfiguration(cmd, globals); err != nil {
		return flag.Options{}, err
	}
	if err := trivys.Bind(cmd); err != nil {
		return flag.Options{}, usage("read the flags: %w", err)
	}
	options, err := trivys.ToOptions(args)
	if err != nil {
		return flag.Options{}, usage("read the flags: %w", err)
	}
	if err := own.Bind(cmd); err != nil {
		return flag.Options{}, usage("read the flags: %w", err)
	}
	for _, group := range own {
		for _, f := range group.Flags() {
			if err := f.Parse(); err != nil {
				return flag.Options{}, usage("read the flags: %w", err)
			}
		}
	}
	return options, nil
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
	log.SetDefault(log.New(visibleLog{slog.Default().Handler()}))
	return nil
}

// runScan does what `trivy image` does with its options, with our artifact in
// place of Trivy's.
func runScan(ctx context.Context, options flag.Options, ours nydusOptions, args []string, stdout, stderr io.Writer) (err error) {
	if options.ShowVersion {
		return printVersion(stdout)
	}
	if options.GenerateDefaultConfig {
		return writeDefaultConfig()
	}
	targets, err := targets(options, ours, args)
	if err != nil {
		return err
	}
	if err := checkOptions(options, ours, targets); err != nil {
		return err
	}
	defer ownTempFolder()()
	bounded, cancel := withTimeout(ctx, "the scan", options.Timeout)
	defer cancel()
	s, err := start(bounded, options, ours, targets, stderr)
	if errors.Is(err, artifact.SkipScan) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close(ctx)) }()
	if ours.many(args) {
		err = s.scanMany(ctx, options, targets, stdout) // each in a time of its own
	} else {
		err = s.scanOne(bounded, options, targets[0])
	}
	if err != nil {
		return err
	}
	if err := extension.PostRun(ctx, options); err != nil {
		return fmt.Errorf("after the scan: %w", err)
	}
	return nil
}

// start runs what is to come before all scans, and starts a session.
func start(ctx context.Context, options flag.Options, ours nydusOptions, targets []string, stderr io.Writer) (*session, error) {
	var s *session
	err := endsWith(ctx, func() (err error) {
		if err := extension.PreRun(ctx, options); err != nil {
			return fmt.Errorf("before the scan: %w", err)
		}
		s, err = newSession(ctx, options, ours, targets, stderr)
		return err
	})
	if err != nil {
		return nil, inTime(ctx, err)
	}
	return s, nil
}

// scanOne scans an image and writes its report.
func (s *session) scanOne(ctx context.Context, options flag.Options, target string) error {
	report, service, err := s.scan(ctx, options, target)
	defer service.close()
	if err != nil {
		return err
	}
	// What was read is written down before the report, so that there is no
	// report without it.
	if s.ours.evidence != "" && service.artifact != nil {
		if err := writeEvidence(s.ours.evidence, service.evidence()); err != nil {
			return err
		}
	}
	if err := s.report(ctx, options, report); err != nil {
		return err
	}
	service.closingLine()
	return operation.Exit(options, report.Results.Failed(), report.Metadata)
}

// checkOptions refuses what cannot work, before anything is downloaded.
func checkOptions(options flag.Options, ours nydusOptions, targets []string) error {
	noScan := options.DownloadDBOnly || options.DownloadJavaDBOnly
	switch {
	case options.ExitCode == exitIncomplete || options.ExitOnEOL == exitIncomplete:
		return usage("exit code %d says that a scan could not be completed: choose another for --exit-code and --exit-on-eol", exitIncomplete)
	case !slices.Contains([]string{mountNative, mountNydusd}, ours.mount):
		return usage("--mount %s: there are native and nydusd", ours.mount)
	case ours.mount == mountNative && ours.nydusd.backend.Type != "":
		return usage("--backend-type is for nydusd: add --mount nydusd")
	case ours.mount == mountNydusd && ours.verify == verifyFull:
		return usage("--verify full: nydusd reads the blobs itself, and not whole: scan with --mount native")
	case ours.mount == mountNydusd && ours.requireLayers:
		return usage("--require-layers: nydusd shows the merged image only: scan with --mount native")
	case len(targets) == 0 && !noScan:
		return usage("name an image to scan: trivy nydus [flags] IMAGE")
	case len(targets) > 1 && options.Format != types.FormatJSON:
		return usage("several images give one JSON report a line: add --format json")
	}
	if ours.mount == mountNydusd {
		for _, target := range targets {
			if err := ours.nydusd.checkTarget(options, target); err != nil {
				return err
			}
		}
	}
	if err := checkLogin(options, targets); err != nil {
		return err
	}
	if options.ServerAddr != "" && options.Scanners.AnyEnabled(types.MisconfigScanner, types.SecretScanner) {
		log.Warn("Misconfigurations and secrets are looked for on the client's side, not by the server")
	}
	return nil
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
