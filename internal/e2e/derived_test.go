package e2e

import (
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
)

// otherForms are images as older builders wrote their metadata, and images that were
// made of others.
func otherForms(t *testing.T) []form {
	t.Helper()
	alter := func(version string, f func([]byte) []byte) v1.Image {
		return testimage.AlterBootstrap(t, testimage.Convert(t, testimage.BuildOCI(t, testimage.Tiny(t)), testimage.ConvertOptions{FSVersion: version}), f)
	}
	tiny := testimage.BuildOCI(t, testimage.Tiny(t))
	forms := []form{
		{"without-extended-blob-table", tiny, alter("5", testimage.WithoutExtendedBlobTable)},
		{"compact-inodes", tiny, alter("6", func(b []byte) []byte { b, _ = testimage.WithCompactInodes(b); return b })},
		{"optimized", withoutHistory(t, testimage.Newer(t, "oci")), testimage.Newer(t, "optimized")},
		{"committed", withoutHistory(t, testimage.CommittedSource(t)), testimage.Newer(t, "committed")},
	}
	upper, mounts := testimage.CommittedLayers()
	folder := testimage.Tiny(t)
	folder.Name, folder.Layers = "folder", []testimage.Layer{testimage.Join(folder.Layers[:2]...).WithParents()}
	for _, version := range []string{"5", "6"} {
		options := testimage.ConvertOptions{FSVersion: version}
		committed := testimage.Commit(t, testimage.Convert(t, tiny, options), upper, mounts...)
		packed := testimage.Stack(t, testimage.BuildOCI(t, folder), version)
		forms = append(forms,
			form{"committed-with-paths" + version, withoutHistory(t, committed.Source), committed},
			form{"folder" + version, withoutHistory(t, packed.Source), testimage.Wrap(t, packed, testimage.Wrapping{History: []v1.History{}})},
		)
	}
	many := testimage.BuildOCI(t, testimage.ManyLayers(254)) // as Test254Blobs converts it
	return append(forms, form{"254-blobs", many, testimage.Convert(t, many, testimage.ConvertOptions{FSVersion: "6"})})
}

// withoutHistory returns an image whose config does not tell the commands that made it:
// Trivy takes no layer for one of a base image then, nor do we where the history does
// not match the layers.
func withoutHistory(t *testing.T, img v1.Image) v1.Image {
	t.Helper()
	config, err := img.ConfigFile()
	require.NoError(t, err)
	config = config.DeepCopy()
	config.History = nil
	img, err = mutate.ConfigFile(img, config)
	require.NoError(t, err)
	return img
}

// TestSameReportOfDerivedImages compares reports as TestSameReportAsTrivyImage does, but
// for the commands that made the layers: the history of most of these images does not
// tell them.
func TestSameReportOfDerivedImages(t *testing.T) {
	registry := testregistry.Start(t)
	for _, f := range otherForms(t) {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			repository := f.push(t, registry)
			want := report(t, "trivy", append([]string{"image", "--cache-dir", cacheDir(t), repository + ":oci"}, everything...)...)
			require.NotZero(t, count(want, "Secrets"), "Trivy finds no secrets")
			got := report(t, "trivy-nydus", append([]string{"--cache-dir", cacheDir(t), repository + ":nydus"}, everything...)...)
			dropHistory(want)
			dropHistory(got)
			assertSame(t, want, got)
		})
	}
}

// dropHistory takes the commands that made layers out of a report, and the history in
// the image's config.
func dropHistory(v any) {
	switch v := v.(type) {
	case map[string]any:
		delete(v, "CreatedBy")
		delete(v, "history")
		for _, member := range v {
			dropHistory(member)
		}
	case []any:
		for _, element := range v {
			dropHistory(element)
		}
	}
}
