package main

import (
	"fmt"
	"io"
	"runtime/debug"
	"strings"

	"github.com/aquasecurity/trivy/pkg/version/app"
)

// version is that of the plugin; `make` sets it.
var version = "dev"

// trivyVersion is that of the Trivy that is built in: what the linker was told,
// else what go.mod says.
func trivyVersion() string {
	if v := app.Version(); v != "dev" {
		return v
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dep := range info.Deps {
			if dep.Path == "github.com/aquasecurity/trivy" {
				return strings.TrimPrefix(dep.Version, "v")
			}
		}
	}
	return "unknown"
}

func printVersion(w io.Writer) error {
	_, err := fmt.Fprintf(w, "trivy-nydus %s\nTrivy %s\n", version, trivyVersion())
	return err
}
