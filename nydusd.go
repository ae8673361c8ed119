package main

import (
	"fmt"
	"os"
	"slices"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/aquasecurity/trivy/pkg/flag"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/artifact"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
)

// A nydusdFlagGroup holds the flags of nydusd, for scans with --mount nydusd and
// for the mount command.
type nydusdFlagGroup struct {
	Program           *flag.Flag[string]
	BackendType       *flag.Flag[string]
	BackendConfig     *flag.Flag[string]
	BackendConfigFile *flag.Flag[string]
}

// nydusdOptions are the values of these flags.
type nydusdOptions struct {
	program string
	backend nydusmount.Backend
}

func newNydusdFlagGroup() *nydusdFlagGroup {
	return &nydusdFlagGroup{
		Program: &flag.Flag[string]{
			Name: "nydusd", ConfigName: "nydus.nydusd",
			Usage: "the program nydusd: a path or a name (default: NYDUSD, then nydusd in PATH)",
		},
		BackendType: &flag.Flag[string]{
			Name: "backend-type", ConfigName: "nydus.backend-type", Values: nydusmount.BackendTypes,
			Usage: "where nydusd reads the image's data (default: where the image is)",
		},
		BackendConfig: &flag.Flag[string]{
			Name: "backend-config", ConfigName: "nydus.backend-config",
			Usage: "configuration of nydusd's backend, as JSON; others on this machine can read command lines: for credentials use --backend-config-file",
		},
		BackendConfigFile: &flag.Flag[string]{
			Name: "backend-config-file", ConfigName: "nydus.backend-config-file",
			Usage: "file with the configuration of nydusd's backend, as JSON",
		},
	}
}

// Name implements [flag.FlagGroup].
func (g *nydusdFlagGroup) Name() string { return "Nydusd" }

// Flags implements [flag.FlagGroup].
func (g *nydusdFlagGroup) Flags() []flag.Flagger {
	return []flag.Flagger{g.Program, g.BackendType, g.BackendConfig, g.BackendConfigFile}
}

// ToOptions implements [flag.FlagGroup]. See options.
func (g *nydusdFlagGroup) ToOptions(*flag.Options) error { return nil }

// options gives the values, once Trivy has parsed the flags.
func (g *nydusdFlagGroup) options() (nydusdOptions, error) {
	o := nydusdOptions{program: g.Program.Value()}
	kind, config, file := g.BackendType.Value(), g.BackendConfig.Value(), g.BackendConfigFile.Value()
	switch {
	case kind == "" && config == "" && file == "":
		return o, nil
	case kind == "":
		return o, usage("--backend-config and --backend-config-file need --backend-type")
	case (config == "") == (file == ""):
		return o, usage("--backend-type needs either --backend-config or --backend-config-file")
	}
	if file != "" {
		data, err := os.ReadFile(file)
		if err != nil {
			return o, usage("--backend-config-file: %w", err)
		}
		config = string(data)
	}
	var err error
	if o.backend, err = nydusmount.ParseBackend(kind, []byte(config)); err != nil {
		return o, usage("%w", err)
	}
	return o, nil
}

// mount translates the options for nydusmount.
func (o *nydusdOptions) mount(options flag.Options) nydusmount.Options {
	return nydusmount.Options{Program: o.program, Backend: o.backend, SkipVerify: options.Insecure}
}

// checkTarget refuses, by name, what nydusd would not honour when it reads a
// target's blobs from the registry.
func (o *nydusdOptions) checkTarget(options flag.Options, target string) error {
	if o.backend.Type != "" || options.Input != "" || nydusimage.IsPath(target) {
		return nil
	}
	switch {
	case options.CACerts != nil:
		return usage("nydusd cannot use --cacert: add the certificate to those of the system, or scan with --mount native")
	case options.RegistryToken != "":
		return usage("nydusd cannot use --registry-token: log in with a user name and a password, or scan with --mount native")
	}
	reference, err := name.ParseReference(target)
	if err != nil {
		return nil // nydusimage says what is wrong
	}
	host := reference.Context().RegistryStr()
	if len(options.RegistryMirrors[host]) > 0 {
		return usage("nydusd cannot use the mirrors of %s (registry.mirrors): leave them out, or scan with --mount native", host)
	}
	folder, err := nydusimage.HostCertificates(host)
	if err != nil {
		return usage("certificates for %s: %w", host, err)
	}
	if folder != "" {
		return usage("nydusd cannot use the certificates in %s: scan with --mount native", folder)
	}
	return nil
}

// nydusdLine is the end of a scan's closing line.
func nydusdLine(e evidence) string {
	read := "results of nydusd's reads from the cache"
	switch {
	case e.Scan.NydusdRequests > 0:
		read = fmt.Sprintf("nydusd read %s in %d requests", bytesString(e.Scan.NydusdBytes), e.Scan.NydusdRequests)
	case slices.ContainsFunc(e.Scan.Slices, func(s artifact.SliceEvidence) bool { return !s.FromCache }):
		read = "nydusd read nothing, or does not say what"
	}
	return fmt.Sprintf("%s, %s, manifest %s", read, e.Scan.Verified, e.Image.Manifest)
}
