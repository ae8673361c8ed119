package nydusimage

import (
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
)

// indexOf lists images and indexes, each with the descriptor that is given.
func indexOf(entries ...mutate.IndexAddendum) v1.ImageIndex {
	return mutate.AppendManifests(empty.Index, entries...)
}

func entry(thing mutate.Appendable, platform *v1.Platform) mutate.IndexAddendum {
	return mutate.IndexAddendum{Add: thing, Descriptor: v1.Descriptor{Platform: platform}}
}

// TestSelect opens images of indexes as other tools than converters write them.
func TestSelect(t *testing.T) {
	host := testregistry.Start(t).Host()
	amd, arm := &v1.Platform{OS: "linux", Architecture: "amd64"}, &v1.Platform{OS: "linux", Architecture: "arm64"}
	armV8 := &v1.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}
	oci, ociARM := fixtureOCI(t, "amd64", ""), fixtureOCI(t, "arm64", "")
	nydus := testimage.Convert(t, oci, testimage.ConvertOptions{})
	nydusARM := testimage.Convert(t, ociARM, testimage.ConvertOptions{})
	deep := indexOf(entry(nydus, amd))
	for range maxNested + 1 {
		deep = indexOf(entry(deep, nil))
	}
	for tag, c := range map[string]struct {
		index    v1.ImageIndex
		platform *v1.Platform
		want     v1.Image // nil: ErrPlatform
	}{
		"no-platform":              {indexOf(entry(nydus, nil)), nil, nydus},
		"no-platform-arm":          {indexOf(entry(nydus, nil)), arm, nil},
		"no-marks":                 {indexOf(entry(oci, amd), entry(nydus, amd)), nil, nydus},
		"no-marks-nydus-first":     {indexOf(entry(nydus, amd), entry(oci, amd)), nil, nydus},
		"nested":                   {indexOf(entry(indexOf(entry(nydus, amd)), nil)), nil, nydus},
		"nested-platform":          {indexOf(entry(indexOf(entry(nydus, amd)), amd), entry(indexOf(entry(nydusARM, arm)), arm)), arm, nydusARM},
		"nested-behind-its-own":    {indexOf(entry(indexOf(entry(nydusARM, amd)), nil), entry(nydus, amd)), nil, nydus},
		"nested-other-platform":    {indexOf(entry(indexOf(entry(nydus, amd)), arm)), nil, nil},
		"variant-of-index":         {indexOf(entry(nydusARM, armV8)), arm, nydusARM},
		"variant-asked-for":        {indexOf(entry(nydusARM, armV8)), armV8, nydusARM},
		"variant-that-is-not-said": {indexOf(entry(nydusARM, arm)), armV8, nil}, // trivy image: no child with platform
	} {
		t.Run(tag, func(t *testing.T) {
			target := host + "/image:" + tag
			testimage.Push(t, target, c.index)
			o := Options{Platform: c.platform}
			if c.want == nil {
				mustFail(t, target, o, ErrPlatform)
				return
			}
			image := mustOpen(t, target, o)
			digest, err := c.want.Digest()
			require.NoError(t, err)
			assert.Equal(t, digest, image.Digest)
		})
	}
	t.Run("the OCI image", func(t *testing.T) {
		for _, tag := range []string{"no-marks", "no-marks-nydus-first"} {
			image, err := OpenOCI(t.Context(), host+"/image:"+tag, Options{})
			require.NoError(t, err)
			defer image.Close()
			digest, err := oci.Digest()
			require.NoError(t, err)
			assert.Equal(t, digest, image.Digest)
		}
	})
	t.Run("an exact platform", func(t *testing.T) {
		armV7, arm32 := &v1.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}, &v1.Platform{OS: "linux", Architecture: "arm"}
		target := host + "/image:exact"
		testimage.Push(t, target, indexOf(entry(nydusARM, armV7), entry(indexOf(entry(nydus, arm32)), amd)))
		platforms, err := Platforms(t.Context(), target, Options{})
		require.NoError(t, err)
		assert.Equal(t, []v1.Platform{*armV7, *arm32}, platforms)
		for platform, want := range map[*v1.Platform]v1.Image{armV7: nydusARM, arm32: nydus} {
			digest, err := want.Digest()
			require.NoError(t, err)
			assert.Equal(t, digest, mustOpen(t, target, Options{Platform: platform, ExactPlatform: true}).Digest)
		}
		digest, err := nydusARM.Digest()
		require.NoError(t, err)
		assert.Equal(t, digest, mustOpen(t, target, Options{Platform: arm32}).Digest, "not exact, as trivy image")
	})
	t.Run("two of one kind", func(t *testing.T) {
		two := indexOf(entry(oci, amd), entry(nydus, amd), entry(nydusARM, amd))
		for tag, index := range map[string]v1.ImageIndex{
			"two":        two,
			"two-nested": indexOf(entry(nydus, amd), entry(indexOf(entry(nydusARM, amd)), nil)),
		} {
			testimage.Push(t, host+"/image:"+tag, index)
			mustOpen(t, host+"/image:"+tag, Options{})
			mustFail(t, host+"/image:"+tag, Options{Platform: amd, ExactPlatform: true}, ErrAmbiguous)
		}
		testimage.Push(t, host+"/image:same", indexOf(entry(nydus, amd), entry(nydus, amd), entry(oci, amd)))
		mustOpen(t, host+"/image:same", Options{Platform: amd, ExactPlatform: true})
	})
	t.Run("too deep", func(t *testing.T) {
		testimage.Push(t, host+"/image:deep", deep)
		err := mustFail(t, host+"/image:deep", Options{}, ErrInvalid)
		assert.ErrorContains(t, err, "more than 16 indexes")
	})
	t.Run("of a layout", func(t *testing.T) {
		dir := t.TempDir()
		testimage.WriteLayout(t, dir, map[string]any{"nested": indexOf(entry(indexOf(entry(nydus, amd)), nil))})
		mustOpen(t, dir+":nested", Options{})
	})
}
