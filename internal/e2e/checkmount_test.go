//go:build linux

package e2e

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
)

// TestCheckMounted compares what the real nydusd serves.
func TestCheckMounted(t *testing.T) {
	nydusd := throughNydusd(t)
	dir := ownTemp(t)
	registry := testregistry.Start(t)
	for _, version := range []string{"5", "6"} {
		oci, nydus := checkPair(t, registry, testimage.ConvertOptions{FSVersion: version})
		r := runCheck(t, append([]string{oci, nydus}, nydusd...)...)
		require.Zero(t, r.code, "%s\n%s", r.stdout, r.stderr)
		assert.Equal(t, "equal; content read as nydusd serves it", verdict(r))

		oci, nydus = checkPair(t, registry, testimage.ConvertOptions{FSVersion: version},
			changed("etc/motd", func(f *testimage.File) { f.Data, f.Mode = append([]byte("X"), f.Data[1:]...), 0o600 }))
		document := checkJSON(t, 1, append([]string{oci, nydus}, nydusd...)...)
		assert.ElementsMatch(t, []string{"filesystem etc/motd content", "filesystem etc/motd mode", sourceDigest}, foundIn(pairOf(document, 0)))
	}
	assertNothingLeft(t, dir)
}
