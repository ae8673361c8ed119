package mutate

import (
	"archive/tar"
	"bytes"
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
)

// entries counts what can be read of an archive.
func entries(archive []byte) (n int) {
	for r := tar.NewReader(bytes.NewReader(archive)); ; n++ {
		if _, err := r.Next(); err != nil {
			return n
		}
	}
}

// TestMendTar leaves sound archives as they are, and lets those with other types,
// names and sizes be read on.
func TestMendTar(t *testing.T) {
	layers, err := testimage.BuildOCI(t, testimage.Lossy(t)).Layers()
	require.NoError(t, err)
	r, err := layers[0].Uncompressed()
	require.NoError(t, err)
	sound, err := io.ReadAll(r)
	require.NoError(t, err)
	require.Equal(t, sound, MendTar(sound))

	altered := bytes.Clone(sound)
	last := bytes.LastIndex(altered, []byte("ustar\x00")) - 257
	altered[last] = 'z'
	copy(altered[last+tarSize:], "00000007777\x00")
	assert.Equal(t, entries(sound)-1, entries(altered), "the checksum is another")
	assert.Equal(t, entries(sound), entries(MendTar(altered)))
	assert.Equal(t, entries(MendTar(altered)), entries(MendTar(altered[:len(altered)-700])))
}
