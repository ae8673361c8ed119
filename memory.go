package main

import (
	"os"
	"runtime/debug"
)

// scanGC is the garbage collector's target while an image is read, percent of
// the live heap: Go's own lets the heap grow to twice what is alive. A scan
// decompresses into memory what trivy image streams; so that its peak is no
// higher it collects more often, which costs a tenth of its CPU time.
const scanGC = 50

// boundMemory keeps garbage short from now on, unless the user has a say.
func boundMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(scanGC)
	}
}
