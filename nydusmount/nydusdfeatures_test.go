//go:build linux

package nydusmount_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
)

// TestNydusdIsTooOld: it is said which of an image's features nydusd 2.2.0 does
// not know.
func TestNydusdIsTooOld(t *testing.T) {
	dir := temp(t)
	layout := testimage.NewerLayout(t)
	for tag, features := range map[string]string{"batch": "batch chunks", "encrypted": "encrypted data", "encrypted-batch": "batch chunks, encrypted data"} {
		image := opened(t, layout+":"+tag, nydusimage.Options{})
		_, err := nydusmount.Nydusd(t.Context(), image, nydusmount.Options{Program: testimage.Tools(t).Nydusd})
		assert.ErrorIs(t, err, nydusmount.ErrNydusd, tag)
		assert.ErrorContains(t, err, "invalid blob features", "what nydusd 2.2.0 says")
		assert.ErrorContains(t, err, "the image has "+features+", which nydusd 2.2 does not read")
	}
	assertGone(t, dir)
}
