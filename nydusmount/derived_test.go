package nydusmount_test

import (
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// shown is a folder in which the real nydusd shows a conversion of the image.
func shown(t *testing.T, oci v1.Image) string {
	t.Helper()
	converted := testimage.Convert(t, oci, testimage.ConvertOptions{})
	return testimage.Mount(t, converted.BootstrapPath, converted.BlobDir)
}

// TestReadsCommitted reads what nydusify commit makes: a blob of what a container
// wrote, above an image in batches, whose entry is the bootstrap's first.
func TestReadsCommitted(t *testing.T) {
	mount := openLayout(t, testimage.NewerLayout(t)+":committed")
	assertShows(t, shown(t, testimage.CommittedSource(t)), mount)
	assertLayersRead(t, mount)
	require.Len(t, mount.Layers, 4)
	top := mount.Image.Layers[3]
	assert.Equal(t, top.Digest.String(), mount.Image.BootstrapLayer.Annotations[nydusimage.AnnotationCommitBlobs])
	assert.Equal(t, top.BlobID(), mount.Merged.Tree.Blobs()[0].ID)
	assert.Empty(t, mount.Warnings)
	assert.Equal(t, make([]string, 4), mount.CreatedBy(), "the history has no entry for what was committed")
}

// TestReadsOptimized reads what nydusify optimize makes: chunks of some files are
// copied to a blob that is no layer, the blobs of the layers keep theirs.
func TestReadsOptimized(t *testing.T) {
	mount := openLayout(t, testimage.NewerLayout(t)+":optimized")
	require.Len(t, mount.Layers, 4)
	store := mount.Image.Layers[3]
	assert.Equal(t, store.BlobID(), mount.Image.BootstrapLayer.Annotations[nydusimage.AnnotationPrefetchBlob])
	var copied []string
	require.NoError(t, mount.Merged.Walk(func(name string, inode rafs.Inode) error {
		if !inode.IsRegular() {
			return nil
		}
		chunks, err := inode.Chunks()
		for _, c := range chunks {
			if mount.Merged.BlobID(c.Blob) == store.BlobID() {
				copied = append(copied, name)
			}
		}
		return err
	}))
	assert.Equal(t, []string{"etc/debian_version", "usr/bin/hostname", "usr/lib/os-release", "var/lib/dpkg/status"}, copied)

	image, err := mount.OfLayers(t.Context())
	require.NoError(t, err)
	require.Len(t, image.Layers, 3)
	assertShows(t, shown(t, testimage.Newer(t, "oci")), image)
	assertLayersRead(t, image)
	assert.Empty(t, mount.Warnings)
}

// TestReadsCommittedWithPaths reads what nydusify commit --with-path makes: the blobs
// of mounts are listed before that of what the container wrote, and merged after it.
func TestReadsCommittedWithPaths(t *testing.T) {
	upper, mounts := testimage.CommittedLayers()
	for _, version := range []string{"5", "6"} {
		base := testimage.Convert(t, testimage.BuildOCI(t, testimage.Tiny(t)), testimage.ConvertOptions{FSVersion: version})
		n := testimage.Commit(t, base, upper, mounts...)
		mount := openWrapped(t, n)
		assertSameTree(t, n.BootstrapPath, n.BlobDir, mount)
		assertLayersRead(t, mount)

		image, err := mount.OfLayers(t.Context())
		require.NoError(t, err)
		require.Len(t, image.Layers, 6)
		assertShows(t, testimage.Mount(t, n.BootstrapPath, n.BlobDir), image)
		last := image.ImageLayers()[3:]
		assert.Equal(t, []string{n.Blobs[5].Digest.Hex, n.Blobs[3].Digest.Hex, n.Blobs[4].Digest.Hex},
			[]string{last[0].BlobID(), last[1].BlobID(), last[2].BlobID()}, "v%s: as they were merged", version)
		assert.Equal(t, make([]string, 6), image.CreatedBy())
	}
}
