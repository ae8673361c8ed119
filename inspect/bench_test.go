package inspect_test

import (
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/inspect"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
)

// large is an image of 200,000 files, 20,000 of them in one folder.
func large(testing.TB) testimage.Spec {
	l := testimage.Layer{}
	for n := range 200_000 {
		name := fmt.Sprintf("flat/file-%06d", n)
		if n >= 20_000 {
			name = fmt.Sprintf("deep/%02d/%02d/file-%06d.txt", n/100%45, n/4500%40, n)
		}
		l = append(l, testimage.Text(name, fmt.Sprintf("file %d\n", n)))
	}
	return testimage.Spec{Name: "large", Layers: []testimage.Layer{l.WithParents()}}
}

// BenchmarkLarge answers questions about 200,000 files, whose bootstrap is in
// memory.
func BenchmarkLarge(b *testing.B) {
	for _, version := range versions {
		i := open(b, large(b), testimage.ConvertOptions{FSVersion: version})
		for _, words := range [][]string{
			{"ls", "/flat"}, {"ls", "/deep/07/07"}, {"find", "/"}, {"find", "/deep/07", "--name", "*.txt"}, {"find", "/", "--name", "file-012345"},
			{"stat", "/flat/file-012345"}, {"stats"}, {"icheck", "1"},
		} {
			for _, asJSON := range []bool{false, true} {
				name := fmt.Sprintf("v%s/%q", version, words)
				if asJSON {
					name += "/json"
				}
				b.Run(name, func(b *testing.B) {
					call, err := inspect.Parse(words)
					require.NoError(b, err)
					b.ReportAllocs()
					for b.Loop() {
						err = i.Answer(b.Context(), call, inspect.Output{Out: io.Discard, JSON: asJSON})
					}
					if words[0] != "icheck" { // 1 is no inode of v6
						require.NoError(b, err)
					}
				})
			}
		}
	}
}
