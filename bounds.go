package main

import (
	"errors"
	"fmt"

	"github.com/docker/go-units"

	"github.com/aquasecurity/trivy/pkg/flag"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/artifact"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/inspect"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// The flags that raise bounds, by what they bound.
var boundFlags = map[rafs.Bound]string{
	rafs.BoundMetadata: "max-metadata-size",
	rafs.BoundNames:    "max-files",
	rafs.BoundTemp:     "max-temp-size",
	rafs.BoundFile:     "max-file-size",
	rafs.BoundOutput:   "max-output-size",
}

// A boundFlagGroup holds the flags that raise the bounds on what an image may take
// (docs/security.md). They are the same in all commands, but for those of one command.
type boundFlagGroup struct {
	Metadata *flag.Flag[string]
	Names    *flag.Flag[int]
	Temp     *flag.Flag[string]
	File     *flag.Flag[string] // nil but in a scan
	Output   *flag.Flag[string] // nil but in inspect
}

// bounds are the values of these flags.
type bounds struct {
	limits       nydusimage.Limits
	file, output int64 // bytes
}

func newBoundFlagGroup() *boundFlagGroup {
	return &boundFlagGroup{
		Metadata: sizeFlag(rafs.BoundMetadata, rafs.DefaultMetadata, "how much memory the metadata of an image may take"),
		Names: &flag.Flag[int]{
			Name: boundFlags[rafs.BoundNames], ConfigName: "nydus." + boundFlags[rafs.BoundNames], Default: int(rafs.DefaultNames),
			Usage: "how many names an image's tree may have, and the trees of its layers together",
		},
		Temp: sizeFlag(rafs.BoundTemp, nydusimage.DefaultTemp, "how much temporary files may take on disk"),
	}
}

// sizeFlag is the flag of a bound in bytes.
func sizeFlag(bound rafs.Bound, value int64, usage string) *flag.Flag[string] {
	name := boundFlags[bound]
	return &flag.Flag[string]{Name: name, ConfigName: "nydus." + name, Default: units.HumanSize(float64(value)), Usage: usage}
}

// newScanBoundFlagGroup is newBoundFlagGroup for a scan.
func newScanBoundFlagGroup() *boundFlagGroup {
	g := newBoundFlagGroup()
	g.File = sizeFlag(rafs.BoundFile, artifact.DefaultMaxFile, "how much of a file analyzers may read")
	return g
}

// newInspectBoundFlagGroup is newBoundFlagGroup for inspect.
func newInspectBoundFlagGroup() *boundFlagGroup {
	g := newBoundFlagGroup()
	g.Output = sizeFlag(rafs.BoundOutput, inspect.DefaultMaxOutput, "how much cat and export may write")
	return g
}

// Name implements [flag.FlagGroup].
func (g *boundFlagGroup) Name() string { return "Bound" }

// Flags implements [flag.FlagGroup].
func (g *boundFlagGroup) Flags() []flag.Flagger {
	flags := []flag.Flagger{g.Metadata, g.Names, g.Temp}
	for _, f := range []*flag.Flag[string]{g.File, g.Output} {
		if f != nil {
			flags = append(flags, f)
		}
	}
	return flags
}

// ToOptions implements [flag.FlagGroup]. See options.
func (g *boundFlagGroup) ToOptions(*flag.Options) error { return nil }

// options gives the values, once Trivy has parsed the flags.
func (g *boundFlagGroup) options() (b bounds, err error) {
	if g.Names.Value() <= 0 {
		return b, usage("--%s %d: it must be positive", g.Names.Name, g.Names.Value())
	}
	b.limits.Names = int64(g.Names.Value())
	var temp int64
	for _, f := range []struct {
		flag  *flag.Flag[string]
		value *int64
	}{{g.Metadata, &b.limits.Metadata}, {g.Temp, &temp}, {g.File, &b.file}, {g.Output, &b.output}} {
		if f.flag == nil {
			continue
		}
		if *f.value, err = units.FromHumanSize(f.flag.Value()); err != nil || *f.value <= 0 {
			return b, usage("--%s %q is no size, such as 2GB", f.flag.Name, f.flag.Value())
		}
	}
	b.limits.Temp = rafs.NewBudget(rafs.BoundTemp, temp)
	return b, nil
}

// limitHint says which flag raises the bound that an error is about; "" for other
// errors.
func limitHint(err error) string {
	var limit *rafs.LimitError
	if !errors.As(err, &limit) {
		return ""
	}
	value := fmt.Sprint(limit.Allowed)
	if limit.Bound != rafs.BoundNames {
		value = units.HumanSize(float64(limit.Allowed))
	}
	return fmt.Sprintf("no image that is known takes so much: raise --%s (%s) if you trust it", boundFlags[limit.Bound], value)
}
