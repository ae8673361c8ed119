package testimage

import (
	"flag"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var newerProgram = flag.String("newer", "", "path of a newer nydus-image, to make testdata/newer anew")

// TestNewer makes testdata/newer anew, if told to, and checks that it is whole.
func TestNewer(t *testing.T) {
	if *newerProgram != "" {
		oci := BuildOCI(t, Tiny(t))
		things := map[string]any{"oci": oci}
		for tag, options := range newerForms {
			options.NydusImage = *newerProgram
			things[tag] = Convert(t, oci, options)
		}
		require.NoError(t, os.RemoveAll(newerDir))
		WriteLayout(t, newerDir, things)
		t.Skip("testdata/newer was made anew")
	}
	assert.Len(t, NewerForms(), len(newerForms))
	for _, tag := range append(slices.Clone(NewerForms()), "oci") {
		layers, err := Newer(t, tag).Layers()
		require.NoError(t, err, tag)
		assert.GreaterOrEqual(t, len(layers), 3, tag)
	}
}
