package consistency

import (
	"context"
	"sync"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
)

func TestZZ(t *testing.T) {
	for _, spec := range []testimage.Spec{testimage.Odd(t), testimage.Tiny(t), testimage.Debian(t)} {
		oci := testimage.BuildOCI(t, spec)
		for _, o := range []testimage.ConvertOptions{{FSVersion: "5"}, {FSVersion: "6"}, {FSVersion: "6", Compressor: "none"}} {
			n := testimage.Convert(t, oci, o)
			dir := t.TempDir()
			testimage.WriteLayout(t, dir, map[string]any{"n": n})
			image, err := nydusimage.Open(t.Context(), dir+":n", nydusimage.Options{})
			require.NoError(t, err)
			r, err := zzCheck(t.Context(), Images{Target: image})
			require.NoError(t, err)
			for _, x := range r.Results {
				fmt.Println(spec.Name, o, x.Rule, x.Verdict(), len(x.Differences), x.Err, x.Elapsed)
				for i, d := range x.Differences {
					if i < 5 {
						fmt.Println("   ", d)
					}
				}
				for _, d := range x.Notes {
					fmt.Println("    note", d)
				}
			}
			fmt.Printf("%+v\n", r.Counts)
			image.Close()
		}
	}
}

func zzCheck(ctx context.Context, images Images) (*Report, error) {
	report := &Report{Depth: DepthFull}
	images.opened = sync.OnceValues(func() (*nydusimage.Bootstrap, error) { return images.Target.Bootstrap(ctx) })
	report.run(ctx, images, Options{Data: DepthFull}, runner{RuleManifest, checkManifest}, runner{RuleBootstrap, checkBootstrap}, runner{RuleData, checkData})
	return report, nil
}
