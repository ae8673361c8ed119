// Command trivy-nydus is a Trivy plugin: `trivy nydus <ref>` scans a Nydus
// container image where it lies, in a registry, reading only the bytes that the
// analyzers ask for.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	xos "github.com/aquasecurity/trivy/pkg/x/os"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/confined"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/projects"

	_ "modernc.org/sqlite" // the RPM and Java databases are SQLite files
)

func main() {
	if code, is := nydusmount.Watcher(os.Args[1:]); is {
		os.Exit(code)
	}
	if code, is := confined.Main(os.Args[1:], map[string]confined.Part{projects.PartName: projects.Part}); is {
		os.Exit(code)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the process at once.
	context.AfterFunc(ctx, stop)
	ctx, cancel := context.WithCancel(ctx)
	endWithTrivy(cancel)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	_ = xos.Cleanup()
	os.Exit(code)
}
