package main

import (
	"os"
	"runtime/debug"
)

const (
	// scanGC is the garbage collector's target while an image is read, percent of
	// the live heap: Go's own lets the heap grow to twice what is alive. A scan
	// decompresses into memory what trivy image streams; so that its peak is no
	// higher it collects more often, which costs a tenth of its CPU time.
	scanGC = 50
	// smallImage is the size, in bytes, below which an image's data is not what
	// takes the memory.
	smallImage = 8 << 20
)

// boundMemory keeps garbage short from now on, if an image of the given size is to
// be read, unless the user has a say.
func boundMemory(image int64) {
	if image >= smallImage && os.Getenv("GOGC") == "" {
		debug.SetGCPercent(scanGC)
	}
}
