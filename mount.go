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
	"github.com/aquasecurity/trivy/pkg/log"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
)

// A mountFlagGroup holds the flags of the mount command alone.
type mountFlagGroup struct {
	PlainHTTP *flag.Flag[bool]
	Twin      *flag.Flag[bool]
	Prefetch  *flag.Flag[bool]

	DecryptionKey *flag.Flag[[]string]
}

func newMountFlagGroup() *mountFlagGroup {
	scan := newNydusFlagGroup()
	return &mountFlagGroup{
		PlainHTTP: scan.PlainHTTP,
		Twin:      scan.Twin,

		DecryptionKey: scan.DecryptionKey,
		Prefetch: &flag.Flag[bool]{
			Name: "prefetch", ConfigName: "nydus.prefetch",
			Usage: "let nydusd fetch the whole image in the background",
		},
	}
}

// Name implements [flag.FlagGroup].
func (g *mountFlagGroup) Name() string { return "Nydus" }

// Flags implements [flag.FlagGroup].
func (g *mountFlagGroup) Flags() []flag.Flagger {
	return []flag.Flagger{g.PlainHTTP, g.Twin, g.DecryptionKey, g.Prefetch}
}

// ToOptions implements [flag.FlagGroup]. Trivy's options have no place for
// ours.
func (g *mountFlagGroup) ToOptions(*flag.Options) error { return nil }

// mount runs `trivy nydus mount`.
func mount(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if err := execute(ctx, newMountCommand(stdout, stderr), args, stdout, stderr); err != nil {
		return mountError{err}
	}
	return nil
}

func newMountCommand(stdout, stderr io.Writer) *cobra.Command {
	globals := flag.NewGlobalFlagGroup()
	ours, nydusd, bound := newMountFlagGroup(), newNydusdFlagGroup(), newBoundFlagGroup()
	image := &flag.ImageFlagGroup{Platform: flag.NewImageFlagGroup().Platform}
	trivys, own := flag.Flags{globals, image, flag.NewRegistryFlagGroup()}, flag.Flags{ours, nydusd, bound}
	cmd := newCobra()
	cmd.Use = "trivy nydus mount [flags] IMAGE FOLDER"
	cmd.Short = "Mount a Nydus image in a folder through nydusd, until interrupted"
	cmd.Long = "Mount a Nydus image in an empty folder, read-only, through nydusd. The mount ends with the command:\n" +
		"on an interrupt (Ctrl-C) or SIGTERM, which are its usual end, and however else it ends."
	cmd.Example = `  # Look around in an image, from another shell
  $ trivy nydus mount registry.example.com/app:nydus ./app

  # Scan it as a folder
  $ trivy rootfs ./app`
	cmd.Args = func(_ *cobra.Command, args []string) error {
		if len(args) != 2 {
			return usage("mount takes an image and a folder, got %d arguments", len(args))
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		options, err := readOptions(cmd, globals, trivys, own, args[:1])
		if err != nil {
			return err
		}
		values := nydusOptions{plainHTTP: ours.PlainHTTP.Value(), twin: ours.Twin.Value()}
		if values.keys, err = readDecryptionKeys(ours.DecryptionKey); err != nil {
			return err
		}
		if values.nydusd, err = nydusd.options(); err != nil {
			return err
		}
		if values.bounds, err = bound.options(); err != nil {
			return err
		}
		return runMount(cmd.Context(), options, values, ours.Prefetch.Value(), args[0], args[1], stderr)
	}
	addFlags(cmd, globals, slices.Concat(own, trivys))
	return cmd
}

// runMount mounts and waits. That it is interrupted once the image is mounted
// is its good end.
func runMount(ctx context.Context, options flag.Options, ours nydusOptions, prefetch bool, target, dir string, stderr io.Writer) error {
	point, err := nydusmount.CheckMountPoint(dir)
	if err != nil {
		return err
	}
	if err := ours.nydusd.checkTarget(options, target); err != nil {
		return err
	}
	s := &service{session: &session{ours: ours, stderr: stderr}, options: options, started: time.Now()}
	defer s.close()
	daemon, err := s.startDaemon(ctx, target, point, prefetch)
	if err != nil {
		return err
	}
	if !options.Quiet {
		fmt.Fprintf(stderr, "nydus: %s is mounted at %s; interrupt to unmount it\n", oneLine(target), oneLine(daemon.MountPoint))
	}
	select {
	case <-ctx.Done():
	case <-daemon.Done():
	}
	ended := daemon.Err()
	return errors.Join(ended, daemon.Close())
}

// startDaemon opens the image and has nydusd mount it, within --timeout.
func (s *service) startDaemon(ctx context.Context, target, point string, prefetch bool) (*nydusmount.Daemon, error) {
	opening, cancel := withTimeout(ctx, "mounting", s.options.Timeout)
	defer cancel()
	failed := func(err error) (*nydusmount.Daemon, error) {
		return nil, inTime(opening, err)
	}
	imageOptions, err := s.imageOptions(opening, target)
	if err != nil {
		return failed(err)
	}
	if s.image, err = nydusimage.Open(opening, target, imageOptions); err != nil {
		return failed(err)
	}
	log.Debug("Resolved the image", log.String("manifest", s.image.Digest.String()))
	o := s.ours.nydusd.mount(s.options)
	o.MountPoint, o.Prefetch = point, prefetch
	daemon, err := nydusmount.StartDaemon(opening, s.image, o)
	if err != nil {
		return failed(err)
	}
	return daemon, nil
}
