//go:build linux

package testimage_test

import (
	"testing"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
)

// TestZranMounts compares what nydusd shows of an image whose data stays in the OCI layers with these layers.
func TestZranMounts(t *testing.T) {
	spec := testimage.Tiny(t)
	nydus := testimage.Convert(t, testimage.BuildOCI(t, spec), testimage.ConvertOptions{OCIRef: true})
	root := testimage.Mount(t, nydus.BootstrapPath, nydus.BlobDir)
	compareTree(t, root, testimage.Flatten(spec.Layers...))
}
