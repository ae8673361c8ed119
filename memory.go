package main

import (
	"os"
	"runtime/debug"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
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

// boundMemory keeps garbage short from now on, where the image is to be read, unless
// the user has a say. How large the OCI layers are that an image refers to, its
// manifest does not say.
func boundMemory(img *nydusimage.Image) {
	refers := slices.ContainsFunc(img.Layers, func(l nydusimage.Layer) bool { return l.Ref != v1.Hash{} })
	if (refers || size(img) >= smallImage) && os.Getenv("GOGC") == "" {
		debug.SetGCPercent(scanGC)
	}
}
