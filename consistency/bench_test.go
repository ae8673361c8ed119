package consistency

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
)

// What the issue asks for: an image of 40,000 files in 2 GB.
const (
	largeFiles  = 40_000
	largeLayers = 4
	largeBytes  = 2 << 30
	largeMemory = 150 << 20 // that the process that checks it may take, in bytes
)

// large is the specification of that image. Its content compresses as programs
// do.
func large(testing.TB) testimage.Spec {
	random := rand.New(rand.NewChaCha8([32]byte{1}))
	words := make([][]byte, 8192)
	for i := range words {
		words[i] = make([]byte, 3+random.IntN(10))
		for k := range words[i] {
			words[i][k] = byte(random.Uint32())
		}
	}
	spec := testimage.Spec{Name: "large"}
	for n := range largeLayers {
		var l testimage.Layer
		for f := range largeFiles / largeLayers {
			size := 2 * largeBytes / largeFiles * random.IntN(1000) / 1000
			data := make([]byte, 0, size+16)
			for len(data) < size {
				data = append(data, words[random.IntN(len(words))]...)
			}
			l = append(l, testimage.Reg(fmt.Sprintf("usr/%d/%d/%d", n, f%100, f), data))
		}
		spec.Layers = append(spec.Layers, l.WithParents())
	}
	return spec
}

// largePair stores the image and its Nydus twin as a layout, once.
func largePair(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(testimage.CacheDir(t), "check-large")
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	image := testimage.BuildOCI(t, large(t))
	nydus := testimage.Convert(t, image, testimage.ConvertOptions{})
	tmp, err := os.MkdirTemp(filepath.Dir(dir), "check-large.tmp")
	require.NoError(t, err)
	testimage.WriteLayout(t, tmp, map[string]any{"oci": image, "nydus": nydus})
	require.NoError(t, os.Rename(tmp, dir))
	return dir
}

// BenchmarkLargeImage checks the image in a process of its own, and for
// comparison runs `gzip -d | sha256sum` over its layers, all at once. It reports
// the time of both, as it passed and on all processors, and the process' peak
// memory. On a machine that has something else to do, the time on processors is
// the one to compare.
func BenchmarkLargeImage(b *testing.B) {
	dir := largePair(b)
	for b.Loop() {
		started := time.Now()
		checkCPU, peak := checkInProcess(b, dir)
		check := time.Since(started)
		started = time.Now()
		gzipCPU := gunzip(b, dir)
		baseline := time.Since(started)
		b.ReportMetric(check.Seconds(), "check-s")
		b.ReportMetric(baseline.Seconds(), "gzip-s")
		b.ReportMetric(check.Seconds()/baseline.Seconds(), "check/gzip")
		b.ReportMetric(checkCPU.Seconds()/gzipCPU.Seconds(), "check/gzip-cpu")
		b.ReportMetric(float64(peak)/(1<<20), "peak-MiB")
	}
}

// checkInProcess runs TestCheckLarge in a process of its own and returns its
// time on processors and its peak memory in bytes.
func checkInProcess(t testing.TB, dir string) (time.Duration, int64) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestCheckLarge$", "-test.count=1")
	cmd.Env = append(os.Environ(), "CHECK_LARGE="+dir)
	output, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", output)
	var kilobytes int64
	_, peak, _ := strings.Cut(string(output), "VmHWM:")
	_, err = fmt.Sscan(peak, &kilobytes)
	require.NoError(t, err, "%s", output)
	return cpu(cmd), kilobytes << 10
}

func cpu(cmd *exec.Cmd) time.Duration {
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
}

// TestMemory checks the large image within the memory that it may take.
func TestMemory(t *testing.T) {
	if os.Getenv("BENCH") == "" {
		t.Skip("the large image takes minutes to make: make bench")
	}
	_, peak := checkInProcess(t, largePair(t))
	require.Less(t, peak, int64(largeMemory))
}

// TestCheckLarge is what checkInProcess runs.
func TestCheckLarge(t *testing.T) {
	dir := os.Getenv("CHECK_LARGE")
	if dir == "" {
		t.Skip("run by BenchmarkLargeImage")
	}
	var counts Counts
	result := checkFilesystem(t.Context(), openPair(t, dir+":oci", dir+":nydus"), Options{}, &counts)
	require.NoError(t, result.Err)
	require.Empty(t, result.Differences)
	require.EqualValues(t, largeFiles, counts.Files)
	// The usage that a parent is told of a process has its own in it.
	status, err := os.ReadFile("/proc/self/status")
	require.NoError(t, err)
	os.Stdout.Write(status)
}

// gunzip returns the time on processors.
func gunzip(t testing.TB, dir string) time.Duration {
	t.Helper()
	images := openPair(t, dir+":oci", dir+":nydus")
	commands := make([]*exec.Cmd, len(images.Source.Layers))
	var group sync.WaitGroup
	for n, l := range images.Source.Layers {
		name := filepath.Join(dir, "blobs", "sha256", l.Digest.Hex)
		commands[n] = exec.Command("sh", "-c", `gzip -dc <"$1" | sha256sum`, "sh", name)
		group.Go(func() {
			output, err := commands[n].Output()
			if err != nil || !strings.HasPrefix(string(output), strings.TrimPrefix(l.DiffID, "sha256:")) {
				t.Errorf("gzip and sha256sum: %v: %s", err, output)
			}
		})
	}
	group.Wait()
	var total time.Duration
	for _, cmd := range commands {
		total += cpu(cmd)
	}
	return total
}
