package nydusmount_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/consistency"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// openWrapped opens an image natively.
func openWrapped(t *testing.T, img v1.Image) *nydusmount.Mount {
	t.Helper()
	dir := t.TempDir()
	testimage.WriteLayout(t, dir, map[string]any{"nydus": img})
	return openLayout(t, dir)
}

// assertSameTree compares every field and byte of the merged tree with what the
// real nydusd shows of a bootstrap.
func assertSameTree(t *testing.T, bootstrap, blobs string, mount *nydusmount.Mount) {
	t.Helper()
	for _, d := range differences(t, bootstrap, blobs, mount) {
		t.Error(d)
	}
}

func differences(t *testing.T, bootstrap, blobs string, mount *nydusmount.Mount) []consistency.Difference {
	t.Helper()
	dir := testimage.Mount(t, bootstrap, blobs)
	all, err := consistency.Compare(consistency.Dir(dir), consistency.Tree(mount.Merged.Tree, mount.Merged.Data))
	require.NoError(t, err)
	return slices.DeleteFunc(all, func(d consistency.Difference) bool {
		// nydusd shows its own start time for a time of 0.
		return d.Field == "mtime" && strings.HasPrefix(d.Got, "1970-01-01 00:00:00 ")
	})
}

// TestStackedImages reads images as converters made them before v2.2: layer
// upon layer, without bootstraps in the blobs, with chunks that several layers
// share.
func TestStackedImages(t *testing.T) {
	for _, spec := range []testimage.Spec{testimage.Odd(t), testimage.Tiny(t), testimage.Times(), testimage.WhiteoutInBase(t), testimage.Whiteouts()} {
		for _, version := range []string{"5", "6"} {
			t.Run(spec.Name+"/v"+version, func(t *testing.T) {
				n := testimage.Stack(t, testimage.BuildOCI(t, spec), version)
				mount := openWrapped(t, n)
				assertSameTree(t, n.BootstrapPath, n.BlobDir, mount)
				assert.False(t, mount.LayerTrees(), "the blobs carry no bootstraps")
			})
		}
	}
}

// TestPackedFolder reads what nydusify pack makes: one blob, no history of layers.
func TestPackedFolder(t *testing.T) {
	for _, version := range []string{"5", "6"} {
		spec := testimage.Odd(t)
		spec.Layers = spec.Layers[:1]
		n := testimage.Stack(t, testimage.BuildOCI(t, spec), version)
		mount := openWrapped(t, testimage.Wrap(t, n, testimage.Wrapping{History: []v1.History{}}))
		assertSameTree(t, n.BootstrapPath, n.BlobDir, mount)
		require.Len(t, mount.Image.Layers, 1)
		assert.Empty(t, mount.Image.Layers[0].CreatedBy)
	}
}

// TestWithoutExtendedBlobTable takes the table of the blobs' sizes from images of
// the real builder, as those before v2.0 have none.
func TestWithoutExtendedBlobTable(t *testing.T) {
	spec := testimage.Odd(t)
	for name, n := range map[string]*testimage.Nydus{
		"stacked": testimage.Stack(t, testimage.BuildOCI(t, spec), "5"),
		"merged":  testimage.Convert(t, testimage.BuildOCI(t, spec), testimage.ConvertOptions{FSVersion: "5"}),
	} {
		t.Run(name, func(t *testing.T) {
			bootstrap, err := os.ReadFile(n.BootstrapPath)
			require.NoError(t, err)
			altered := testimage.WithoutExtendedBlobTable(bootstrap)
			require.False(t, bytes.Equal(bootstrap, altered))
			mount := openWrapped(t, testimage.Wrap(t, n, testimage.Wrapping{Bootstrap: altered}))
			assert.Zero(t, mount.Merged.Blobs()[0].CompressedSize)
			assertSameTree(t, keep(t, altered), n.BlobDir, mount)
		})
	}
}

// TestCompactInodes reads the short form of EROFS inodes, which nydusd reads and
// no released builder writes: an image of the real builder, altered.
func TestCompactInodes(t *testing.T) {
	for _, spec := range []testimage.Spec{testimage.Odd(t), testimage.Tiny(t)} {
		n := testimage.Convert(t, testimage.BuildOCI(t, spec), testimage.ConvertOptions{})
		bootstrap, err := os.ReadFile(n.BootstrapPath)
		require.NoError(t, err)
		altered, count := testimage.WithCompactInodes(bootstrap)
		require.Greater(t, count, 20)
		mount := openWrapped(t, testimage.Wrap(t, n, testimage.Wrapping{Bootstrap: altered}))
		for _, d := range differences(t, keep(t, altered), n.BlobDir, mount) {
			// EROFS has the numbers of devices in both forms; nydusd shows 0 for the short one.
			if d.Field != "rdev" || d.Want != "0:0" || d.Got == "0:0" {
				t.Error(d)
			}
		}
	}
}

// keep writes a bootstrap for nydusd.
func keep(t *testing.T, bootstrap []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image.boot")
	require.NoError(t, os.WriteFile(path, bootstrap, 0o600))
	return path
}

// TestACLs reads POSIX ACLs in v5, in an image of the real builder, altered: that
// of nydus-image 2.2.0 refuses them. A v6 one of a newer builder is in package rafs.
func TestACLs(t *testing.T) {
	n := testimage.Convert(t, testimage.BuildOCI(t, testimage.PlannedACLs()), testimage.ConvertOptions{FSVersion: "5"})
	bootstrap, err := os.ReadFile(n.BootstrapPath)
	require.NoError(t, err)
	altered := testimage.WithACLs(bootstrap)
	mount := openWrapped(t, testimage.Wrap(t, n, testimage.Wrapping{Bootstrap: altered}))
	assertSameTree(t, keep(t, altered), n.BlobDir, mount)
	for path, name := range map[string]string{"file": "system.posix_acl_access", "dir": "system.posix_acl_default"} {
		inode, err := mount.Merged.Lookup(path)
		require.NoError(t, err)
		xattrs, err := inode.Xattrs()
		require.NoError(t, err)
		assert.Contains(t, xattrs, name)
	}
}

// TestTimes: the times that the source has, which a conversion of tars loses.
func TestTimes(t *testing.T) {
	spec := testimage.Times()
	for _, version := range []string{"5", "6"} {
		mount := openWrapped(t, testimage.Stack(t, testimage.BuildOCI(t, spec), version))
		for _, f := range spec.Layers[0] {
			inode, err := mount.Merged.Lookup(f.Path)
			require.NoError(t, err)
			assert.True(t, f.ModTime.Equal(inode.Modified()), "v%s %s: %v, want %v", version, f.Path, inode.Modified(), f.ModTime)
		}
	}
}

// Test254Blobs reads the most blobs that an inode of v6 can name.
func Test254Blobs(t *testing.T) {
	const count = 254
	oci := testimage.BuildOCI(t, testimage.ManyLayers(count))
	for _, version := range []string{"5", "6"} {
		n := testimage.Convert(t, oci, testimage.ConvertOptions{FSVersion: version})
		mount := openWrapped(t, n)
		assert.Len(t, mount.Merged.Blobs(), count)
		assertSameTree(t, n.BootstrapPath, n.BlobDir, mount)
	}
}

// TestWhiteoutsOfLowestLayer: the tree shows their names, as nydusd does.
func TestWhiteoutsOfLowestLayer(t *testing.T) {
	for _, version := range []string{"5", "6"} {
		n := testimage.Convert(t, testimage.BuildOCI(t, testimage.Whiteouts()), testimage.ConvertOptions{FSVersion: version})
		mount := openWrapped(t, n)
		assertSameTree(t, n.BootstrapPath, n.BlobDir, mount)
		for _, name := range []string{".wh.nothere", ".wh.content.env", ".wh.dir/inside.env", ".wh.link", "etc/.wh..wh..opq"} {
			_, err := mount.Merged.Lookup(name)
			assert.NoError(t, err, "v%s", version)
		}
	}
}

// TestWrappings reads one image as different converters wrap it.
func TestWrappings(t *testing.T) {
	for _, version := range []string{"5", "6"} {
		n := testimage.Convert(t, testimage.BuildOCI(t, testimage.Tiny(t)), testimage.ConvertOptions{FSVersion: version})
		for name, w := range map[string]testimage.Wrapping{
			"legacy name":             {BootstrapName: "image.boot"},
			"name from the folder":    {BootstrapName: "./image/image.boot"},
			"tar":                     {Compression: "none"},
			"tar+zstd":                {Compression: "zstd"},
			"docker":                  {Docker: true, FSVersion: true},
			"docker, tar":             {Docker: true, Compression: "none"},
			"blob.meta files":         {Metas: true, FSVersion: true},
			"no media type of blobs":  {Edit: func(m *v1.Manifest) { m.Layers[0].MediaType = m.Layers[len(m.Layers)-1].MediaType }},
			"no annotations of blobs": {Edit: func(m *v1.Manifest) { m.Layers[0].Annotations = nil }},
			"committed": {FSVersion: true, History: []v1.History{{CreatedBy: "COPY layer1 / # buildkit"}}, Edit: func(m *v1.Manifest) {
				last(m).Annotations["containerd.io/snapshot/nydus-commit-blobs"] = m.Layers[1].Digest.String() + "," + m.Layers[2].Digest.String()
			}},
			"a wrong version": {Edit: func(m *v1.Manifest) {
				m.Layers[len(m.Layers)-1].Annotations[testimage.AnnotationFSVersion] = map[string]string{"5": "6", "6": "5"}[version]
			}},
		} {
			t.Run("v"+version+"/"+name, func(t *testing.T) {
				mount := openWrapped(t, testimage.Wrap(t, n, w))
				assert.Equal(t, rafs.Version(version[0]-'0'), mount.Merged.Superblock().Version)
				assertSameTree(t, n.BootstrapPath, n.BlobDir, mount)
			})
		}
	}
}
