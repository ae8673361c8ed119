package testimage

import (
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	newerProgram = flag.String("newer", "", "path of a newer nydus-image, to make images of testdata/newer anew")
	newerTags    = flag.String("newer-tags", "", "tags of the images to make anew, separated by commas; empty: all")
)

// newerTwins are the tags of all images in testdata/newer but the source.
func newerTwins() []string {
	return append(NewerForms(), optimizedTag, committedTag)
}

// TestNewer makes images of testdata/newer anew, if told to, and checks that it is whole.
func TestNewer(t *testing.T) {
	if *newerProgram != "" {
		remakeNewer(t, *newerProgram, *newerTags)
		t.Skip("testdata/newer was made anew")
	}
	assert.Len(t, NewerForms(), len(newerForms))
	for _, tag := range append(newerTwins(), "oci") {
		layers, err := Newer(t, tag).Layers()
		require.NoError(t, err, tag)
		assert.GreaterOrEqual(t, len(layers), 3, tag)
	}
}

// remakeNewer makes the images with these tags, all for "", and writes testdata/newer with them and the others.
func remakeNewer(t *testing.T, program, tags string) {
	t.Helper()
	oci := BuildOCI(t, Tiny(t))
	anew := newerTwins()
	if tags != "" {
		anew = strings.Split(tags, ",")
		oci = Newer(t, "oci")
	}
	things := map[string]any{"oci": oci}
	for _, tag := range newerTwins() {
		if slices.Contains(anew, tag) {
			things[tag] = makeNewer(t, program, tag, oci)
		} else {
			things[tag] = Newer(t, tag)
		}
	}
	require.NoError(t, os.RemoveAll(newerDir))
	WriteLayout(t, newerDir, things)
}

func makeNewer(t *testing.T, program, tag string, oci v1.Image) v1.Image {
	t.Helper()
	switch tag {
	case optimizedTag:
		return optimize(t, Convert(t, oci, ConvertOptions{FSVersion: "5", NydusImage: program}))
	case committedTag:
		options := newerForms["batch"]
		options.NydusImage = program
		return commit(t, Convert(t, oci, options), committedUpper())
	}
	options := newerForms[tag]
	options.NydusImage = program
	return Convert(t, oci, options)
}
