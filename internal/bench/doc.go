// Package bench measures scans: `trivy image` on an OCI image, and what reads its Nydus twins. `make bench` runs
// TestBench; this package has what becomes of the numbers, a table and a plot. docs/performance.md says how they come about.
//
//   - a scan is one run of a tool on an image, with a cache in some state
//   - a row is what several scans of a kind took, as medians, and as ratios to the scans by Baseline in the same run
package bench
