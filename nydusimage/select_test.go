package nydusimage

import (
	"os"
	"path/filepath"
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
	t.Run("platforms", func(t *testing.T) {
		armV7, arm32 := v1.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}, v1.Platform{OS: "linux", Architecture: "arm"}
		digest := func(img v1.Image) v1.Hash {
			digest, err := img.Digest()
			require.NoError(t, err)
			return digest
		}
		target := host + "/image:platforms"
		testimage.Push(t, target, indexOf(entry(nydusARM, &armV7), entry(oci, amd), entry(oci, amd),
			entry(indexOf(entry(nydus, &arm32), entry(nydus, amd), entry(nydusARM, amd)), amd)))
		platforms, err := Platforms(t.Context(), target, Options{})
		require.NoError(t, err)
		found := make(map[string][2][]v1.Hash)
		digests := func(descriptors []v1.Descriptor) (digests []v1.Hash) {
			for _, d := range descriptors {
				digests = append(digests, d.Digest)
			}
			return digests
		}
		for _, p := range platforms {
			assert.NoError(t, p.Err)
			found[p.Platform.String()] = [2][]v1.Hash{digests(p.OCI), digests(p.Nydus)}
			for i := range p.Nydus {
				assert.Equal(t, p.Nydus[i].Digest, mustOpen(t, target, Options{Manifest: &p.Nydus[i]}).Digest)
			}
		}
		assert.Equal(t, map[string][2][]v1.Hash{
			"linux/arm/v7": {nil, {digest(nydusARM)}},
			"linux/amd64":  {{digest(oci)}, {digest(nydus), digest(nydusARM)}},
			"linux/arm":    {nil, {digest(nydus)}},
		}, found)
		assert.Equal(t, digest(nydusARM), mustOpen(t, target, Options{Platform: &arm32}).Digest, "arm is any arm, as for trivy image")

		for _, single := range []struct {
			image      v1.Image
			platform   string
			oci, nydus []v1.Hash
		}{
			{oci, "linux/amd64", []v1.Hash{digest(oci)}, nil},
			{nydusARM, "linux/arm64", nil, []v1.Hash{digest(nydusARM)}},
		} {
			testimage.Push(t, target, single.image)
			platforms, err = Platforms(t.Context(), target, Options{})
			require.NoError(t, err)
			require.Len(t, platforms, 1)
			assert.Equal(t, single.platform, platforms[0].Platform.String())
			assert.Equal(t, single.oci, digests(platforms[0].OCI))
			assert.Equal(t, single.nydus, digests(platforms[0].Nydus))
		}

		// One that cannot be read leaves the others.
		folder := t.TempDir()
		testimage.WriteLayout(t, folder, map[string]any{"both": indexOf(entry(oci, amd), entry(ociARM, arm))})
		require.NoError(t, os.Remove(filepath.Join(folder, "blobs/sha256", digest(ociARM).Hex)))
		platforms, err = Platforms(t.Context(), folder, Options{})
		require.NoError(t, err)
		require.Len(t, platforms, 2)
		assert.NoError(t, platforms[0].Err)
		assert.ErrorContains(t, platforms[1].Err, digest(ociARM).String())
		testimage.Push(t, target, indexOf())
		_, err = Platforms(t.Context(), target, Options{})
		assert.ErrorIs(t, err, ErrPlatform)
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
