package e2e

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
)

// TestBench prints what a cold scan takes from the registry, and how long, for
// the plugin on the Nydus image and for trivy image on the source image, in
// turn. It measures and asserts nothing: `make bench` runs it.
func TestBench(t *testing.T) {
	if os.Getenv("BENCH") == "" {
		t.Skip("measures, run by make bench")
	}
	const runs = 5
	registry := testregistry.Start(t)
	proxy := testregistry.CountingProxy(t, registry.Host())
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "image\tscanners\ttool\tbytes\tof trivy image\trequests\tseconds\tof trivy image")
	for _, spec := range []func(testing.TB) testimage.Spec{testimage.Debian, testimage.DebianApp, testimage.Tiny} {
		s := spec(t)
		publish(t, registry, s)
		repository := proxy.Host() + "/test/" + s.Name
		for _, scanners := range []string{"vuln", "vuln,secret", "vuln,secret,misconfig,license"} {
			flags := append(slices.Clone(offline), "--quiet", "--scanners", scanners, "--format", "json", "--output", os.DevNull)
			tools := []struct {
				name, command string
				args          []string
			}{
				{"trivy image", "trivy", []string{"image", repository + ":oci"}},
				{"trivy nydus, v6", "trivy-nydus", []string{repository + ":v6"}},
				{"trivy nydus, v5", "trivy-nydus", []string{repository + ":v5"}},
			}
			seconds := make([][]float64, len(tools))
			bytes := make([]int64, len(tools))
			requests := make([]int, len(tools))
			for run := range runs + 1 { // the first warms the page cache
				for n, tool := range tools {
					cache := cacheDir(t)
					proxy.Reset()
					began := time.Now()
					r := start(t, tool.command, append(append(slices.Clone(tool.args), flags...), "--cache-dir", cache)...).wait(t)
					took := time.Since(began).Seconds()
					require.Zero(t, r.code, r.stderr)
					if run > 0 {
						seconds[n] = append(seconds[n], took)
					}
					bytes[n], requests[n] = proxy.Bytes(), proxy.Requests()
				}
			}
			for n, tool := range tools {
				fmt.Fprintf(out, "%s\t%s\t%s\t%d\t%.1f %%\t%d\t%.2f\t%.0f %%\n", s.Name, scanners, tool.name,
					bytes[n], 100*float64(bytes[n])/float64(bytes[0]), requests[n], median(seconds[n]),
					100*medianRatio(seconds[n], seconds[0]))
			}
		}
	}
	require.NoError(t, out.Flush())
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// medianRatio compares pair by pair: these machines' speed drifts.
func medianRatio(a, b []float64) float64 {
	ratios := make([]float64, len(a))
	for i := range a {
		ratios[i] = a[i] / b[i]
	}
	return median(ratios)
}
