package nydusmount_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// TestOverlayEnds: where the context has ended, nothing is applied or compared to its
// end.
func TestOverlayEnds(t *testing.T) {
	because := errors.New("it takes too long")
	ended, end := context.WithCancelCause(t.Context())
	end(because)
	tree := func(prefix string) *rafs.Tree {
		var files []testimage.CraftedFile
		for k := range 1000 {
			files = append(files, testimage.CraftedFile{Path: fmt.Sprintf("%s/%03d", prefix, k)})
		}
		opened, err := rafs.OpenBytes(testimage.CraftV5(files, nil, nil))
		require.NoError(t, err)
		return opened
	}
	mount := &nydusmount.Mount{
		Image:  &nydusimage.Image{Layers: make([]nydusimage.Layer, 1)},
		Layers: []*nydusmount.View{{Tree: tree("a")}},
	}
	_, err := mount.Overlay(ended)
	require.ErrorIs(t, err, because)
	overlay, err := mount.Overlay(t.Context())
	require.NoError(t, err)
	_, err = overlay.Compare(ended, tree("a"))
	require.ErrorIs(t, err, because)

	ctx, end := context.WithCancelCause(t.Context())
	found := 0
	all := func(*nydusmount.Contradiction) error {
		if found++; found == 10 {
			end(because)
		}
		return nil
	}
	require.ErrorIs(t, overlay.Contradictions(ctx, tree("b"), all), because)
	assert.Equal(t, 10, found, "of 1001 that the image has more, and as many that it has not")
}
