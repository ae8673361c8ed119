package consistency

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
)

var errEnded = errors.New("ended by the test")

// An endingContext ends when it has been asked so many times whether it has.
type endingContext struct {
	context.Context
	asked atomic.Int64
	after int64
}

func (c *endingContext) Err() error {
	if c.asked.Add(1) > c.after {
		return errEnded
	}
	return nil
}

// TestEnded ends the context of a check anywhere in the walks over trees: the check
// ends with it, and says so.
func TestEnded(t *testing.T) {
	for _, version := range []string{"5", "6"} {
		dir := t.TempDir()
		testimage.WriteLayout(t, dir, map[string]any{
			"nydus": testimage.Convert(t, testimage.BuildOCI(t, testimage.Odd(t)), testimage.ConvertOptions{FSVersion: version}),
		})
		images := openTarget(t, dir+":nydus")
		bootstrap, err := images.Target.Bootstrap(t.Context())
		require.NoError(t, err)
		tails := readTails(t.Context(), images.Target, bootstrap.Tree)
		// What is read is there: the context is asked by nothing but walks.
		images.layerTails = func() []layerTail { return tails }
		names := int64(0)
		require.NoError(t, Tree(bootstrap.Tree, nil).Walk(func(Node) error { names++; return nil }))
		walks := map[string]struct {
			run   func(ctx context.Context) error
			times int64 // that the merged tree is walked at least
		}{
			"bootstrap": {func(ctx context.Context) error {
				return checkBootstrap(ctx, images, Options{}, &Counts{}).Err
			}, 4}, // its own check, the tables, the layers, the attributes
			"plan": {func(ctx context.Context) error {
				_, err := newPlan(ctx, bootstrap.Tree, DepthDigest, false)
				return err
			}, 1},
		}
		for name, walk := range walks {
			t.Run("v"+version+"/"+name, func(t *testing.T) {
				whole := &endingContext{Context: context.Background(), after: 1 << 40}
				require.NoError(t, walk.run(whole))
				total := whole.asked.Load()
				require.GreaterOrEqual(t, total, walk.times*names, "it is asked at each name")
				for after := int64(0); after < total; after += 1 + total/100 {
					ctx := &endingContext{Context: context.Background(), after: after}
					require.ErrorIs(t, walk.run(ctx), errEnded, "after %d of %d", after, total)
					require.Less(t, ctx.asked.Load(), after+20, "it goes on")
				}
			})
		}
	}
}
