package consistency

import (
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
)

// BenchmarkMountBoth checks the image of BenchmarkLargeImage as nydusify does: the
// OCI layers are unpacked and mounted with overlayfs, the Nydus image by nydusd,
// and both are walked and hashed. Root and FUSE only.
func BenchmarkMountBoth(b *testing.B) {
	dir := largePair(b)
	for b.Loop() {
		started := time.Now()
		images := openPair(b, dir+":oci", dir+":nydus")
		var layers []io.Reader
		for _, l := range images.Source.Layers {
			file, err := os.Open(filepath.Join(dir, "blobs", "sha256", l.Digest.Hex))
			require.NoError(b, err)
			defer file.Close()
			layer, err := gzip.NewReader(file)
			require.NoError(b, err)
			layers = append(layers, layer)
		}
		oci := mountOverlay(b, layers)
		bootstrap, err := images.Target.Bootstrap(b.Context())
		require.NoError(b, err)
		name := filepath.Join(b.TempDir(), "bootstrap")
		require.NoError(b, os.WriteFile(name, bootstrap.File, 0o600))
		nydus := testimage.Mount(b, name, filepath.Join(dir, "blobs", "sha256"))
		differences, err := Compare(shown{Dir(oci)}, shown{Dir(nydus)})
		require.NoError(b, err)
		require.Empty(b, differences)
		both := time.Since(started)
		started = time.Now()
		checkInProcess(b, dir)
		b.ReportMetric(both.Seconds(), "mount-both-s")
		b.ReportMetric(time.Since(started).Seconds()/both.Seconds(), "check/mount-both")
	}
}
