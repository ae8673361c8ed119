package main

import (
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/aquasecurity/trivy/pkg/fanal/types"
	"github.com/aquasecurity/trivy/pkg/flag"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/consistency"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/ocicrypt"
)

// The values of the check command's --format.
const (
	formatTable = "table"
	formatJSON  = "json"
)

// defaultLimit is how many differences are listed: as many as a person may read.
const defaultLimit = 100

// A checkFlagGroup holds the flags of the check command alone.
type checkFlagGroup struct {
	Data           *flag.Flag[string]
	Mount          *flag.Flag[string]
	AllPlatforms   *flag.Flag[bool]
	Twin           *flag.Flag[bool]
	Format         *flag.Flag[string]
	Output         *flag.Flag[string]
	Limit          *flag.Flag[int]
	Ignore         *flag.Flag[[]string]
	PlainHTTP      *flag.Flag[bool]
	DecryptionKey  *flag.Flag[[]string]
	SourceUsername *flag.Flag[string]
	SourcePassword *flag.Flag[string]
	TargetUsername *flag.Flag[string]
	TargetPassword *flag.Flag[string]
}

// checkFlags are the values of these flags.
type checkFlags struct {
	check          consistency.Options
	mount          string
	allPlatforms   bool
	twin           bool
	format, output string
	limit          int // 0 is all
	plainHTTP      bool
	keys           *ocicrypt.Keys
	// source and target are the login for the registry of one side, nil where no
	// flag gives one.
	source, target *types.Credential
	nydusd         nydusdOptions
	bounds         bounds
}

func newCheckFlagGroup() *checkFlagGroup {
	scan := newNydusFlagGroup()
	text := func(name, usage string) *flag.Flag[string] {
		return &flag.Flag[string]{Name: name, ConfigName: "nydus.check." + name, Usage: usage}
	}
	g := &checkFlagGroup{
		Data:  text("data", "how deep to compare content: none, digest (by the digests in the metadata) or full (and read and verify all blob data)"),
		Mount: text("mount", "what to compare: what this process reads (native), or what a nydusd that is started for it serves (nydusd)"),
		AllPlatforms: &flag.Flag[bool]{
			Name: "all-platforms", ConfigName: "nydus.check.all-platforms",
			Usage: "compare the images of each platform",
		},
		Twin:   &flag.Flag[bool]{Name: "twin", ConfigName: scan.Twin.ConfigName, Usage: "compare an OCI image with the Nydus image that names it as its subject"},
		Format: text("format", "how to report"),
		Output: text("output", "file to write the report to"),
		Limit: &flag.Flag[int]{
			Name: "limit", ConfigName: "nydus.check.limit", Default: defaultLimit,
			Usage: "list paths until so many differences are listed; all are counted, 0 lists all",
		},
		Ignore: &flag.Flag[[]string]{
			Name: "ignore", ConfigName: "nydus.check.ignore",
			Usage: "differences to leave out: PATH, PATH:FIELD or :FIELD, with * and, for any number of path elements, **",
		},
		PlainHTTP:      scan.PlainHTTP,
		DecryptionKey:  scan.DecryptionKey,
		SourceUsername: text("source-username", "username for the registry of the OCI image"),
		SourcePassword: text("source-password", "password for the registry of the OCI image; better TRIVY_SOURCE_PASSWORD: others on this machine can read command lines"),
		TargetUsername: text("target-username", "username for the registry of the Nydus image"),
		TargetPassword: text("target-password", "password for the registry of the Nydus image; better TRIVY_TARGET_PASSWORD"),
	}
	g.Data.Default, g.Mount.Default, g.Format.Default = string(consistency.DepthDigest), mountNative, formatTable
	g.Format.Values = []string{formatTable, formatJSON}
	g.Format.Shorthand, g.Output.Shorthand = "f", "o"
	for _, depth := range consistency.Depths {
		g.Data.Values = append(g.Data.Values, string(depth))
	}
	g.Mount.Values = []string{mountNative, mountNydusd}
	return g
}

// Name implements [flag.FlagGroup].
func (g *checkFlagGroup) Name() string { return "Nydus" }

// Flags implements [flag.FlagGroup].
func (g *checkFlagGroup) Flags() []flag.Flagger {
	return []flag.Flagger{
		g.Data, g.Mount, g.AllPlatforms, g.Twin, g.Format, g.Output, g.Limit, g.Ignore, g.PlainHTTP, g.DecryptionKey,
		g.SourceUsername, g.SourcePassword, g.TargetUsername, g.TargetPassword,
	}
}

// ToOptions implements [flag.FlagGroup]. See options.
func (g *checkFlagGroup) ToOptions(*flag.Options) error { return nil }

// options gives the values, once Trivy has parsed the flags.
func (g *checkFlagGroup) options() (checkFlags, error) {
	o := checkFlags{
		check:        consistency.Options{Data: consistency.Depth(g.Data.Value())},
		mount:        g.Mount.Value(),
		allPlatforms: g.AllPlatforms.Value(),
		twin:         g.Twin.Value(),
		format:       g.Format.Value(),
		output:       g.Output.Value(),
		limit:        g.Limit.Value(),
		plainHTTP:    g.PlainHTTP.Value(),
	}
	if o.limit < 0 {
		return o, usage("--limit %d: it cannot be negative", o.limit)
	}
	for _, pattern := range g.Ignore.Value() {
		ignore, err := consistency.ParseIgnore(pattern)
		if err != nil {
			return o, usage("--ignore: %w", err)
		}
		o.check.Ignore = append(o.check.Ignore, ignore)
	}
	var err error
	if o.keys, err = readDecryptionKeys(g.DecryptionKey); err != nil {
		return o, err
	}
	if o.source, err = login("source", g.SourceUsername.Value(), g.SourcePassword.Value()); err != nil {
		return o, err
	}
	o.target, err = login("target", g.TargetUsername.Value(), g.TargetPassword.Value())
	return o, err
}

func login(side, username, password string) (*types.Credential, error) {
	if (username == "") != (password == "") {
		return nil, usage("--%s-username and --%s-password go together", side, side)
	}
	if username == "" {
		return nil, nil
	}
	return &types.Credential{Username: username, Password: password}, nil
}

// logins gives each side's options its own credentials. Those of Trivy's flags,
// which name no host, are for both sides if these are of one registry, and for
// the only side that is in a registry, or has no flags of its own.
func (o *checkFlags) logins(options flag.Options, source, target string) (forSource, forTarget flag.Options, err error) {
	forSource, forTarget = options, options
	sourceHost, targetHost := registryHost(source), registryHost(target)
	if hasLogin(options) && sourceHost != "" && targetHost != "" && sourceHost != targetHost && o.source == nil && o.target == nil {
		return forSource, forTarget, usage("--username, --password and --registry-token do not say whether they are for %s or for %s: use --source-username or --target-username", sourceHost, targetHost)
	}
	own := func(options *flag.Options, login *types.Credential) {
		if login != nil {
			options.Credentials, options.RegistryToken = []types.Credential{*login}, ""
		}
	}
	own(&forSource, o.source)
	own(&forTarget, o.target)
	return forSource, forTarget, nil
}

// registryHost is the host of a reference, "" for a path and for what is no
// reference.
func registryHost(target string) string {
	if nydusimage.IsPath(target) {
		return ""
	}
	reference, err := name.ParseReference(target)
	if err != nil {
		return ""
	}
	return reference.Context().RegistryStr()
}

// checkArguments refuses what cannot work, before anything is asked for.
func (o *checkFlags) checkArguments(options flag.Options, args []string) error {
	switch {
	case len(args) == 0 || len(args) > 2:
		return usage("check takes an OCI image and a Nydus image, or one reference, got %d arguments", len(args))
	case o.twin && len(args) == 2:
		return usage("--twin looks for the Nydus image of one OCI image: leave the second argument out")
	case len(args) == 1 && (o.source != nil || o.target != nil):
		return usage("there is one registry: use --username and --password")
	}
	if o.mount == mountNydusd {
		return o.nydusd.checkTarget(options, args[len(args)-1])
	}
	return nil
}
