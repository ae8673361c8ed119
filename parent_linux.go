package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// parentInterval is how often a plugin looks whether its trivy lives.
const parentInterval = 250 * time.Millisecond

// endWithTrivy calls cancel when the trivy that runs this plugin is gone. Where
// it is interrupted, it kills the plugin itself; where it is killed, nobody else
// would end a mount.
func endWithTrivy(cancel func()) {
	parent := os.Getppid()
	program, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", parent))
	if err != nil || !strings.HasPrefix(filepath.Base(program), "trivy") {
		return // a shell may well end before its jobs
	}
	go func() {
		for os.Getppid() == parent {
			time.Sleep(parentInterval)
		}
		cancel()
	}()
}
