package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/pflag"
	"github.com/urfave/cli/v2"

	"github.com/aquasecurity/trivy/pkg/flag"
	"github.com/aquasecurity/trivy/pkg/types"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
)

// Exit codes. Findings have those that Trivy's --exit-code and --exit-on-eol
// ask for.
const (
	exitDone        = 0
	exitDifferent   = 1 // two images are not the same
	exitIncomplete  = 2 // the work could not be completed or verified
	exitInterrupted = 130
)

// run runs the command line and returns its exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	app := newApp(stdout, stderr)
	err := app.RunContext(ctx, append([]string{app.Name}, commandFirst(args, commandNames(app))...))
	if err == nil {
		return exitDone
	}
	var findings *types.ExitError
	if errors.As(err, &findings) {
		return findings.Code
	}
	if ctx.Err() != nil && !errors.Is(err, nydusmount.ErrLeft) {
		fmt.Fprintln(stderr, "interrupted")
		return exitInterrupted
	}
	fmt.Fprintln(stderr, explain(err))
	return exitIncomplete
}

func newApp(stdout, stderr io.Writer) *cli.App {
	return &cli.App{
		Name:  "trivy nydus",
		Usage: "scan Nydus container images",
		UsageText: "trivy nydus [scan] [flags] IMAGE\ntrivy nydus mount [flags] IMAGE FOLDER\ntrivy nydus check [flags] OCI-IMAGE NYDUS-IMAGE\n" +
			"trivy nydus inspect [flags] IMAGE [COMMAND]\ntrivy nydus version",
		Description: "Scans a Nydus image where it lies, in a registry or an OCI layout, with the findings that\n" +
			"`trivy image` gives on the OCI image it was made from. Only the bytes that Trivy's analyzers\n" +
			"ask for are fetched, and each is verified. All flags of `trivy image` work:\n" +
			"see `trivy nydus scan --help`.",
		Writer:         stdout,
		ErrWriter:      stderr,
		HideVersion:    true,
		ExitErrHandler: func(*cli.Context, error) {}, // run decides
		CommandNotFound: func(c *cli.Context, name string) {
			fmt.Fprintf(stderr, "no help for %q\n", name)
		},
		Commands: []*cli.Command{
			{
				Name:            "scan",
				Usage:           "scan an image (the default command)",
				SkipFlagParsing: true, // the flags are Trivy's
				HideHelp:        true,
				Action: func(c *cli.Context) error {
					return scan(c.Context, c.Args().Slice(), stdout, stderr)
				},
			},
			{
				Name:            "mount",
				Usage:           "mount an image in a folder through nydusd, until interrupted",
				SkipFlagParsing: true, // Trivy's way of reading flags
				HideHelp:        true,
				Action: func(c *cli.Context) error {
					return mount(c.Context, c.Args().Slice(), stdout, stderr)
				},
			},
			{
				Name:            "check",
				Usage:           "compare an image with the OCI image it was made from",
				SkipFlagParsing: true, // Trivy's way of reading flags
				HideHelp:        true,
				Action: func(c *cli.Context) error {
					return check(c.Context, c.Args().Slice(), stdout, stderr)
				},
			},
			{
				Name:            "inspect",
				Usage:           "look inside an image",
				SkipFlagParsing: true, // Trivy's way of reading flags
				HideHelp:        true,
				Action: func(c *cli.Context) error {
					return inspectImage(c.Context, c.Args().Slice(), os.Stdin, stdout, stderr)
				},
			},
			{
				Name:            "version",
				Usage:           "print the version of the plugin and of the Trivy inside",
				SkipFlagParsing: true, // Trivy's global flags mean nothing here
				Action: func(*cli.Context) error {
					return printVersion(stdout)
				},
			},
		},
	}
}

func commandNames(app *cli.App) []string {
	names := []string{"help"}
	for _, c := range app.Commands {
		names = append(names, c.Names()...)
	}
	return names
}

// commandFirst moves the command word to the front. Trivy hands on its leading
// global flags, so `trivy --quiet nydus scan x` arrives as `--quiet scan x`:
// the command word is the first argument that is neither a global flag nor the
// value of one. Where it is none of the commands, scan is meant.
func commandFirst(args, commands []string) []string {
	at := commandWord(args, commands)
	if at < 0 {
		if len(args) == 0 || onlyHelp(args) {
			return args
		}
		return append([]string{"scan"}, args...)
	}
	rest := append(append([]string{}, args[:at]...), args[at+1:]...)
	return append([]string{args[at]}, rest...)
}

// onlyHelp says whether help is asked for, and nothing else.
func onlyHelp(args []string) bool {
	return len(args) == 1 && (args[0] == "-h" || args[0] == "--help")
}

// commandWord returns the index of the command word, -1 if there is none.
func commandWord(args, commands []string) int {
	takesValue := globalFlags()
	for i := 0; i < len(args); i++ {
		arg := args[i]
		switch {
		case arg == "--":
			return -1
		case strings.HasPrefix(arg, "--"):
			name, _, hasValue := strings.Cut(arg[2:], "=")
			value, global := takesValue[name]
			if !global {
				return -1
			}
			if value && !hasValue {
				i++
			}
		case strings.HasPrefix(arg, "-") && arg != "-":
			skip, global := shorthands(arg[1:], takesValue)
			if !global {
				return -1
			}
			i += skip
		default:
			for _, c := range commands {
				if arg == c {
					return i
				}
			}
			return -1
		}
	}
	return -1
}

// shorthands reads a cluster such as "qd" or "cfile" of one-letter flags. skip
// is 1 where the value of the last is the next argument.
func shorthands(cluster string, takesValue map[string]bool) (skip int, global bool) {
	for i := range cluster {
		value, known := takesValue[cluster[i:i+1]]
		if !known {
			return 0, false
		}
		if value {
			if i == len(cluster)-1 {
				return 1, true
			}
			return 0, true
		}
	}
	return 0, true
}

// globalFlags lists Trivy's global flags, long names and one-letter ones, and
// says of each whether it takes a value.
func globalFlags() map[string]bool {
	takesValue := make(map[string]bool)
	cmd := newCobra()
	flag.NewGlobalFlagGroup().AddFlags(cmd)
	cmd.PersistentFlags().VisitAll(func(f *pflag.Flag) {
		value := f.NoOptDefVal == ""
		takesValue[f.Name] = value
		if f.Shorthand != "" {
			takesValue[f.Shorthand] = value
		}
	})
	return takesValue
}
