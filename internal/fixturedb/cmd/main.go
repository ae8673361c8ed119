// Command cmd makes Trivy's databases in a cache folder out of YAML files:
//
//	go run ./internal/fixturedb/cmd bin/demo-cache testdata/db/*.yaml
package main

import (
	"fmt"
	"os"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/fixturedb"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: fixturedb CACHE-DIR FILE.yaml ...")
		os.Exit(2)
	}
	if err := fixturedb.Make(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "fixturedb:", err)
		os.Exit(1)
	}
}
