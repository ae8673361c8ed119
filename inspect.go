package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/aquasecurity/trivy/pkg/flag"
	"github.com/aquasecurity/trivy/pkg/log"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/inspect"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
)

// An inspectFlagGroup holds the flags of the inspect command alone.
type inspectFlagGroup struct {
	Format        *flag.Flag[string]
	Verbose       *flag.Flag[bool]
	PlainHTTP     *flag.Flag[bool]
	Twin          *flag.Flag[bool]
	DecryptionKey *flag.Flag[[]string]
	Unverified    *flag.Flag[bool]
}

func newInspectFlagGroup() *inspectFlagGroup {
	scan := newNydusFlagGroup()
	return &inspectFlagGroup{
		Format: &flag.Flag[string]{
			Name: "format", ConfigName: "nydus.inspect.format", Shorthand: "f", Default: formatTable, Values: []string{formatTable, formatJSON},
			Usage: "how to answer",
		},
		Verbose: &flag.Flag[bool]{
			Name: "verbose", ConfigName: "nydus.inspect.verbose",
			Usage: "say what each command fetched",
		},
		PlainHTTP: scan.PlainHTTP,
		Twin: &flag.Flag[bool]{
			Name: "twin", ConfigName: scan.Twin.ConfigName,
			Usage: "of an OCI image, inspect the Nydus image that names it as its subject (which nothing proves)",
		},
		DecryptionKey: scan.DecryptionKey,
		Unverified: &flag.Flag[bool]{
			Name: "allow-unverified", ConfigName: scan.Unverified.ConfigName,
			Usage: "read the data of an image for whose chunks' digests the manifest does not vouch",
		},
	}
}

// Name implements [flag.FlagGroup].
func (g *inspectFlagGroup) Name() string { return "Nydus" }

// Flags implements [flag.FlagGroup].
func (g *inspectFlagGroup) Flags() []flag.Flagger {
	return []flag.Flagger{g.Format, g.Verbose, g.PlainHTTP, g.Twin, g.DecryptionKey, g.Unverified}
}

// ToOptions implements [flag.FlagGroup]. Trivy's options have no place for
// ours.
func (g *inspectFlagGroup) ToOptions(*flag.Options) error { return nil }

// inspectImage runs `trivy nydus inspect`.
func inspectImage(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	if err := execute(ctx, newInspectCommand(stdin, stdout, stderr), args, stdout, stderr); err != nil {
		return inspectError{err}
	}
	return nil
}

func newInspectCommand(stdin io.Reader, stdout, stderr io.Writer) *cobra.Command {
	globals := flag.NewGlobalFlagGroup()
	ours, bound := newInspectFlagGroup(), newInspectBoundFlagGroup()
	image := &flag.ImageFlagGroup{Platform: flag.NewImageFlagGroup().Platform}
	trivys, own := flag.Flags{globals, image, flag.NewRegistryFlagGroup()}, flag.Flags{ours, bound}
	cmd := newCobra()
	cmd.Use = "trivy nydus inspect [flags] IMAGE|BOOTSTRAP [COMMAND [ARGUMENTS]]"
	cmd.Short = "Look inside a Nydus image"
	cmd.Long = "Look inside a Nydus image in a registry or an OCI layout, or in a bootstrap file. Without a command there is a\n" +
		"prompt on a terminal; with --format json, commands are read from standard input, one a line.\n\nCommands:\n" + inspect.Summary()
	cmd.Example = `  # What is in it, and how much of its blobs is still in use
  $ trivy nydus inspect registry.example.com/app:nydus stats

  # One file, verified; nothing else is fetched
  $ trivy nydus inspect registry.example.com/app:nydus cat /etc/os-release

  # What the third layer changed
  $ trivy nydus inspect registry.example.com/app:nydus layers 3

  # The prompt
  $ trivy nydus inspect ./image.boot`
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		target, call, err := inspectArguments(cmd, args)
		if err != nil {
			return err
		}
		options, err := readOptions(cmd, globals, trivys, own, []string{target})
		if err != nil {
			return err
		}
		values := nydusOptions{plainHTTP: ours.PlainHTTP.Value(), twin: ours.Twin.Value(), unverified: ours.Unverified.Value()}
		if values.keys, err = readDecryptionKeys(ours.DecryptionKey); err != nil {
			return err
		}
		if values.bounds, err = bound.options(); err != nil {
			return err
		}
		s := &service{session: &session{ours: values, stderr: stderr}, options: options, started: time.Now()}
		defer s.close()
		o := inspect.Output{
			Out: stdout, Err: stderr, JSON: ours.Format.Value() == formatJSON, Timeout: options.Timeout,
			Explain: func(err error) string { return explain(inspectError{err}) },
		}
		if ours.Verbose.Value() {
			o.Traffic = &s.traffic
		}
		return s.inspect(cmd.Context(), target, call, stdin, o)
	}
	addFlags(cmd, globals, slices.Concat(own, trivys))
	// The commands have flags of their own.
	cmd.Flags().SetInterspersed(false)
	return cmd
}

// inspectArguments reads the target and the command; call is nil where there is
// none. Our flags may stand before, between and behind them.
func inspectArguments(cmd *cobra.Command, args []string) (target string, call *inspect.Call, err error) {
	if len(args) == 0 {
		return "", nil, usage("inspect takes an image or a bootstrap, got none")
	}
	if err := cmd.ParseFlags(args[1:]); err != nil {
		return "", nil, usage("%w", err)
	}
	if words := cmd.Flags().Args(); len(words) > 0 {
		call, err = inspect.Parse(words, cmd.Flags())
	}
	return args[0], call, err
}

// inspect answers one call or, with nil, whoever asks.
func (s *service) inspect(ctx context.Context, target string, call *inspect.Call, stdin io.Reader, o inspect.Output) (err error) {
	prompt := call == nil && inspect.IsTerminal(stdin, o.Out)
	if call == nil && !prompt && !o.JSON {
		return usage("there is no terminal to ask for commands: give one (%s), or --format json to read them from standard input", strings.Join(inspect.Names(), ", "))
	}
	opened, err := s.openInspect(ctx, target, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, opened.Close()) }()
	opened.MaxOutput = s.ours.bounds.output
	switch {
	case call != nil:
		return opened.Answer(ctx, call, o)
	case prompt:
		lines := inspect.NewPrompt(opened, stdin.(*os.File), o.Out.(*os.File))
		return errors.Join(opened.Serve(ctx, lines, o), lines.Close())
	}
	return opened.Serve(ctx, inspect.NewLines(stdin), o)
}

// openInspect opens the target within --timeout.
func (s *service) openInspect(ctx context.Context, target string, o inspect.Output) (*inspect.Session, error) {
	if inspect.IsBootstrap(target) {
		return inspect.OpenBootstrap(target, s.ours.bounds.limits)
	}
	ctx, cancel := withTimeout(ctx, "opening the image", s.options.Timeout)
	defer cancel()
	opened, err := s.openSession(ctx, target)
	if o.Traffic != nil {
		fmt.Fprintf(o.Err, "nydus: opening read %d bytes in %d requests\n", s.traffic.Bytes(), s.traffic.Requests())
	}
	return opened, inTime(ctx, err)
}

func (s *service) openSession(ctx context.Context, target string) (*inspect.Session, error) {
	imageOptions, err := s.imageOptions(ctx, target)
	if err != nil {
		return nil, err
	}
	if s.image, err = nydusimage.Open(ctx, target, imageOptions); err != nil {
		return nil, err
	}
	log.Debug("Resolved the image", log.String("manifest", s.image.Digest.String()))
	opened, err := inspect.Open(ctx, s.image)
	if err != nil {
		return nil, err
	}
	opened.AllowUnverified = s.ours.unverified
	opened.Warn = func(line string) { log.Warn(line) }
	return opened, nil
}
