//go:build linux

package bench

import (
	"bufio"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
)

// forms are the Nydus twins that are pushed, by the names that tables show, which are tags as well.
var forms = map[string]testimage.ConvertOptions{
	"v6-zstd":      {FSVersion: "6", Compressor: "zstd"},
	"v6-lz4_block": {FSVersion: "6", Compressor: "lz4_block"},
	"v5-zstd":      {FSVersion: "5", Compressor: "zstd"},
	"v5-lz4_block": {FSVersion: "5", Compressor: "lz4_block"},
	"v6-zran":      {OCIRef: true},
}

// ociForm is the tag of the source image.
const ociForm = "oci"

// A subject is a tool, and the form of the image that it scans.
type subject struct{ tool, form string }

// subjects are in the order in which they take turns. The baseline is the first.
var subjects = []subject{
	{Baseline, ociForm},
	{Rootfs, "v6-zstd"},
	{Native, "v6-zstd"},
	{Native, "v6-lz4_block"},
	{Native, "v6-zran"},
	{Native, "v5-zstd"},
	{Native, "v5-lz4_block"},
	{Nydusd, "v6-zstd"},
}

// scan runs the tool on a reference. flags are Trivy's, and name the report.
func (s subject) scan(t *testing.T, w *workplace, ref string, flags []string) Scan {
	t.Helper()
	var taken Scan
	flags = append(slices.Clone(flags), "--cache-dir", w.cache)
	switch s.tool {
	case Baseline:
		taken.add(w.run(t, "trivy", append([]string{"image", ref}, flags...)...))
	case Native:
		taken.add(w.run(t, "trivy-nydus", append([]string{ref}, flags...)...))
	case Nydusd:
		taken.add(w.run(t, "trivy-nydus", append([]string{"--mount", "nydusd", ref}, flags...)...))
	case Rootfs:
		s.scanFolder(t, w, &taken, ref, flags)
	default:
		t.Fatalf("there is no tool %q", s.tool)
	}
	return taken
}

// scanFolder mounts the image, has trivy scan the folder, and unmounts.
func (s subject) scanFolder(t *testing.T, w *workplace, taken *Scan, ref string, flags []string) {
	t.Helper()
	dir := filepath.Join(w.home, "mounted")
	require.NoError(t, os.Mkdir(dir, 0o755))
	mount, _ := w.command(t, "trivy-nydus", "mount", "--cache-dir", w.cache, ref, dir)
	mount.Stderr = nil
	said, err := mount.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, mount.Start())
	mounted := false
	lines := bufio.NewScanner(said)
	for !mounted && lines.Scan() {
		mounted = strings.Contains(lines.Text(), " is mounted at ")
	}
	if mounted {
		taken.add(w.run(t, "trivy", append([]string{"rootfs", dir}, flags...)...))
	}
	require.NoError(t, mount.Process.Signal(unix.SIGTERM))
	rest, _ := io.ReadAll(said)
	err = mount.Wait()
	require.True(t, mounted, "mount %s: %v: %s", ref, err, rest)
	require.NoError(t, err, "unmount %s: %s", ref, rest)
	taken.add(mount.ProcessState)
}
