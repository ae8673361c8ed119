package artifact

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// TestResultsOfUnverifiedBytes: results that depend on bytes with which nobody compares
// a digest are taken again only for the place from which these came, and not at all
// where the image has no digest of them.
func TestResultsOfUnverifiedBytes(t *testing.T) {
	image, err := nydusimage.Open(t.Context(), testimage.NewerLayout(t)+":crc32", nydusimage.Options{})
	require.NoError(t, err)
	defer image.Close()
	analyzers := newAnalyzers(t)
	for _, c := range []struct {
		verified        nydusmount.Verification
		sameTaken       bool // by a scan of the same place
		otherPlaceTaken bool
		left            bool // in the cache, once the scan is over
	}{
		{nydusmount.Verified, true, true, true},
		{nydusmount.VerifiedByNydusd, true, true, true},
		{nydusmount.NotVerified, true, false, true},
		{nydusmount.NoDigests, false, false, false},
	} {
		t.Run(string(c.verified), func(t *testing.T) {
			cache, metadata := newCaches(t)
			image.Metadata = metadata
			scan := func(mount string) (fromCache bool, keys []string) {
				open := func(ctx context.Context, _ func(*rafs.Tree) []rafs.Chunk) (*nydusmount.Mount, error) {
					m, err := nydusmount.Native(ctx, image)
					if err == nil {
						m.Verified = c.verified
					}
					return m, err
				}
				a := New(image, open, cache, analyzers, Options{Mount: mount})
				reference, err := a.Inspect(t.Context())
				require.NoError(t, err)
				_, missing, err := cache.MissingBlobs(t.Context(), reference.ID, reference.BlobIDs)
				require.NoError(t, err)
				require.Empty(t, missing, "detection needs them")
				require.NoError(t, a.Clean(reference))
				fromCache = true
				for _, s := range a.Evidence().Slices {
					fromCache = fromCache && s.FromCache
				}
				return fromCache, reference.BlobIDs
			}
			first, keys := scan("nydusd localfs a")
			assert.False(t, first)
			_, missing, err := cache.MissingBlobs(t.Context(), "", keys)
			require.NoError(t, err)
			assert.Equal(t, c.left, len(missing) == 0)
			same, _ := scan("nydusd localfs a")
			assert.Equal(t, c.sameTaken, same)
			other, _ := scan("nydusd localfs b")
			assert.Equal(t, c.otherPlaceTaken, other)
		})
	}
}
