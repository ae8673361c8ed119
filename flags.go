package main

import (
	"fmt"

	"github.com/aquasecurity/trivy/pkg/flag"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/ocicrypt"
)

// The values of --mount.
const (
	mountNative = "native"
	mountNydusd = "nydusd"
)

// The values of --verify.
const (
	verifyChunks = "chunks"
	verifyFull   = "full"
)

// A nydusFlagGroup holds the flags that `trivy image` does not have. Like
// Trivy's own they can also be set by TRIVY_… variables and in trivy.yaml.
type nydusFlagGroup struct {
	Mount         *flag.Flag[string]
	Evidence      *flag.Flag[string]
	PlainHTTP     *flag.Flag[bool]
	RequireNydus  *flag.Flag[bool]
	RequireLayers *flag.Flag[bool]
	RefsFrom      *flag.Flag[string]
	Twin          *flag.Flag[bool]
	DecryptionKey *flag.Flag[[]string]
	Unverified    *flag.Flag[bool]
	Unconfined    *flag.Flag[bool]
	Verify        *flag.Flag[string]
}

// nydusOptions are the values of these flags.
type nydusOptions struct {
	mount         string
	evidence      string
	plainHTTP     bool
	requireNydus  bool
	requireLayers bool
	refsFrom      string
	twin          bool
	keys          *ocicrypt.Keys // nil without the flag
	unverified    bool
	unconfined    bool
	verify        string
	nydusd        nydusdOptions
	bounds        bounds
}

// way names the way in which images are opened: what is known of an image that was
// opened in one is not taken for one that is opened in another.
func (o *nydusOptions) way() string {
	way := o.mount
	if place := o.nydusd.backend.Place(); o.mount == mountNydusd && place != "" {
		way += " " + place
	}
	if o.mount == mountNative && o.unverified {
		way += " --allow-unverified"
	}
	if o.verify == verifyFull {
		way += " --verify full"
	}
	return way
}

func newNydusFlagGroup() *nydusFlagGroup {
	return &nydusFlagGroup{
		Mount: &flag.Flag[string]{
			Name: "mount", ConfigName: "nydus.mount", Default: mountNative,
			Usage: "how to read the image: native, in this process, or nydusd, through a nydusd that is started for it",
		},
		Evidence: &flag.Flag[string]{
			Name: "evidence", ConfigName: "nydus.evidence",
			Usage: "file to write what was read and what it was verified against to, as JSON",
		},
		PlainHTTP: &flag.Flag[bool]{
			Name: "plain-http", ConfigName: "nydus.plain-http",
			Usage: "speak plain HTTP to the registry",
		},
		RequireNydus: &flag.Flag[bool]{
			Name: "require-nydus", ConfigName: "nydus.require-nydus",
			Usage: "refuse an image that is not a Nydus image, instead of scanning it as trivy image does",
		},
		RequireLayers: &flag.Flag[bool]{
			Name: "require-layers", ConfigName: "nydus.require-layers",
			Usage: "refuse an image whose layers do not say which files were deleted or replaced",
		},
		RefsFrom: &flag.Flag[string]{
			Name: "refs-from", ConfigName: "nydus.refs-from",
			Usage: "file that lists images to scan, one a line (\"-\" for standard input)",
		},
		Twin: &flag.Flag[bool]{
			Name: "twin", ConfigName: "nydus.twin",
			Usage: "scan an OCI image through the Nydus image that names it as its subject (which nothing proves)",
		},
		DecryptionKey: newDecryptionKeyFlag(),
		Unverified: &flag.Flag[bool]{
			Name: "allow-unverified", ConfigName: "nydus.allow-unverified",
			Usage: "read an image for whose chunks' digests the manifest does not vouch, and mark the results",
		},
		Unconfined: &flag.Flag[bool]{
			Name: "allow-unconfined", ConfigName: "nydus.allow-unconfined",
			Usage: "let Trivy's scanners of Ansible and Terraform open files of this machine, and hosts, that a project in the image names, as trivy image does",
		},
		Verify: &flag.Flag[string]{
			Name: "verify", ConfigName: "nydus.verify", Default: verifyChunks, Values: []string{verifyChunks, verifyFull},
			Usage: "what to verify: the chunks that are read, or in full, each blob as a whole besides, which downloads the image",
		},
	}
}

// Name implements [flag.FlagGroup].
func (g *nydusFlagGroup) Name() string { return "Nydus" }

// Flags implements [flag.FlagGroup].
func (g *nydusFlagGroup) Flags() []flag.Flagger {
	return []flag.Flagger{g.Mount, g.Evidence, g.PlainHTTP, g.RequireNydus, g.RequireLayers, g.RefsFrom, g.Twin, g.DecryptionKey, g.Unverified, g.Unconfined, g.Verify}
}

// ToOptions implements [flag.FlagGroup]. Trivy's options have no place for
// ours: see options.
func (g *nydusFlagGroup) ToOptions(*flag.Options) error { return nil }

// options gives the values, once Trivy has parsed the flags.
func (g *nydusFlagGroup) options() (nydusOptions, error) {
	keys, err := readDecryptionKeys(g.DecryptionKey)
	return nydusOptions{
		mount:         g.Mount.Value(),
		evidence:      g.Evidence.Value(),
		plainHTTP:     g.PlainHTTP.Value(),
		requireNydus:  g.RequireNydus.Value(),
		requireLayers: g.RequireLayers.Value(),
		refsFrom:      g.RefsFrom.Value(),
		twin:          g.Twin.Value(),
		keys:          keys,
		unverified:    g.Unverified.Value(),
		unconfined:    g.Unconfined.Value(),
		verify:        g.Verify.Value(),
	}, err
}

// usageTemplate shows the flags in their groups, as `trivy image --help` does.
func usageTemplate(flagGroups string) string {
	return fmt.Sprintf(`Usage:
  {{.UseLine}}

Examples:
{{.Example}}

%s

Global Flags:
{{.PersistentFlags.FlagUsages | trimTrailingWhitespaces}}
`, flagGroups)
}
