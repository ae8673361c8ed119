package artifact

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/aquasecurity/trivy/pkg/cache"
	"github.com/aquasecurity/trivy/pkg/fanal/artifact"
	"github.com/aquasecurity/trivy/pkg/misconf"
	_ "github.com/aquasecurity/trivy/pkg/scan/local" // registers the analyzers

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
)

// planFiles is how many files the planner is measured with.
const planFiles = 100_000

// BenchmarkPlan measures what comes before the first byte of data, in steps: the
// trees cut into slices, the analyzers asked which files they want, and what they
// want ordered and grouped. The files have the names that programs have.
func BenchmarkPlan(b *testing.B) {
	m := planMount(b)
	analyzers, err := NewAnalyzers(artifact.Option{}, func() (misconf.ScannerOption, error) { return misconf.ScannerOption{}, nil })
	require.NoError(b, err)
	b.Run("cut", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, err := cutSlices(b.Context(), m, analyzers.option.WalkerOption)
			require.NoError(b, err)
		}
	})
	cutting, err := cutSlices(b.Context(), m, analyzers.option.WalkerOption)
	require.NoError(b, err)
	a := New(m.Image, nil, cache.NewMemoryCache(), analyzers, Options{})
	a.mount, a.layers = m, cutting.layers
	var w *work
	b.Run("choose", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			w = &work{slice: cutting.slices[0]}
			a.chooseFiles(w)
		}
	})
	b.Run("batches", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var items []item
			for n := range w.files {
				items = append(items, item{file: &w.files[n].file, want: w.files[n].want})
			}
			_, err := batches(items)
			require.NoError(b, err)
		}
	})
}

// planMount opens an image of planFiles files in one layer, without their data.
func planMount(b *testing.B) *nydusmount.Mount {
	b.Helper()
	kinds := []string{"usr/bin/tool%d", "usr/lib/x86_64-linux-gnu/lib%d.so.1", "usr/share/doc/p%d/copyright", "srv/app/module%d.js",
		"usr/lib/python3/dist-packages/m%d.py", "etc/conf%d.yaml", "usr/share/man/man1/p%d.1.gz", "srv/app/node_modules/m%d/package.json"}
	layer := testimage.Layer{testimage.Text("etc/os-release", "ID=debian\nVERSION_ID=12\n")}
	for n := range planFiles {
		f := testimage.Text(fmt.Sprintf(kinds[n%len(kinds)], n), fmt.Sprintf("content %d of a file", n))
		if n%len(kinds) == 0 {
			f.Mode = 0o755
		}
		layer = append(layer, f)
	}
	image := testimage.BuildOCI(b, testimage.Spec{Name: "plan", Layers: []testimage.Layer{layer.WithParents()}})
	dir := b.TempDir()
	testimage.WriteLayout(b, dir, map[string]any{"v6": testimage.Convert(b, image, testimage.ConvertOptions{FSVersion: "6"})})
	opened, err := nydusimage.Open(b.Context(), dir+":v6", nydusimage.Options{})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, opened.Close()) })
	m, err := nydusmount.Native(b.Context(), opened)
	require.NoError(b, err)
	return m
}
