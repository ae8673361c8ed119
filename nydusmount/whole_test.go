package nydusmount

import (
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/blob"
)

// TestWholeReadsEachReferredLayer: layers that share a blob.meta may refer to different
// OCI layers, each of which is read and compared.
func TestWholeReadsEachReferredLayer(t *testing.T) {
	image, _, tails := opened(t, zran(t))
	sources, err := dataSources(image, tails)
	require.NoError(t, err)
	first := image.Layers[0]
	blobs, _, err := verifyWhole(t.Context(), image, tails, sources)
	require.NoError(t, err)
	assert.EqualValues(t, 2*len(tails), blobs, "blob.meta and data of each layer")

	again := first
	again.Ref = v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("0", 64)}
	image.Layers = append(slices.Clone(image.Layers), again)
	tails = append(tails, tails[0])
	sources[again.BlobID()] = sources[first.BlobID()] // not what its name says
	_, _, err = verifyWhole(t.Context(), image, tails, sources)
	assert.ErrorIs(t, err, blob.ErrDigest)
	assert.ErrorContains(t, err, "the OCI layer sha256:0000")
}
