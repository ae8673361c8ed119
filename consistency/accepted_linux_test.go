package consistency

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/mutate"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// FuzzAccepted alters fields of real bootstraps of every kind. An image in which the
// rules of check that read a Nydus image find nothing, the real nydusd mounts, and it
// shows the same: names, attributes, content.
func FuzzAccepted(f *testing.F) {
	images := mutate.Images(f)
	samples := make([]*mutate.Sample, len(images))
	random := rand.New(rand.NewPCG(3, 7))
	for k, image := range images {
		var err error
		samples[k], err = mutate.New(image.Bootstrap)
		require.NoError(f, err)
		if !mountable(image) {
			continue
		}
		f.Add(uint8(k), []byte{})
		// Of all names, those that few checks look at.
		for _, name := range []string{"inode mode", "inode uid", "inode mtime", "name byte", "target byte", "xattr byte", "chunk digest", "chunk blob", "chunk index"} {
			if !slices.Contains(samples[k].Names(), name) {
				continue
			}
			f.Add(uint8(k), append([]byte{0}, samples[k].Step(name, uint16(random.Uint32()), byte(random.Uint32()), byte(random.Uint32()))...))
		}
		f.Add(uint8(k), []byte{mutate.MoveTable | byte(k)<<5})
		// The root's: no longer others' to search, but sticky and setgid.
		root := []byte{0}
		for _, bit := range []byte{0, 9, 10} {
			root = append(root, samples[k].Step("inode mode", 0, 6, bit)...)
		}
		f.Add(uint8(k), root)
		for bit := range byte(32) {
			f.Add(uint8(k), append([]byte{0}, samples[k].Step("blob features", 0, 6, bit)...))
		}
	}
	f.Fuzz(func(t *testing.T, number uint8, recipe []byte) {
		image := images[int(number)%len(images)]
		if !mountable(image) {
			return
		}
		bootstrap := samples[int(number)%len(images)].Apply(recipe)
		if v5Features(bootstrap)&^nydusdFeatures != 0 {
			return
		}
		target := openAltered(t, image, bootstrap)
		if !accepted(t, target) {
			require.NotEmpty(t, recipe, "%s: the sample itself is refused", image.Name)
			return
		}
		opened, err := target.bootstrap(t.Context())
		require.NoError(t, err)
		for _, b := range opened.Tree.Blobs() {
			if b.Features&^nydusdFeatures != 0 {
				return
			}
		}
		dir := t.TempDir()
		name := filepath.Join(dir, "bootstrap")
		require.NoError(t, os.WriteFile(name, bootstrap, 0o600))
		for id, stored := range image.Blobs {
			require.NoError(t, os.WriteFile(filepath.Join(dir, id), stored, 0o600))
		}
		require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("%x", sha256.Sum256(image.Layer))), image.Layer, 0o600))
		mounted := testimage.Mount(t, name, dir)
		found, err := Compare(readTree(t, target), Dir(mounted))
		require.NoError(t, err)
		for _, d := range found {
			if d.Field == "mtime" && epoch(t, opened.Tree, d.Path) {
				continue // nydusd shows the time of its start
			}
			if d.Field == "mode" && d.Path == "." {
				require.Equal(t, rootMode(d.Source.Mode), d.Target.Mode, "%s: the root's mode", image.Name)
				continue
			}
			t.Errorf("%s: nydusd shows another tree: %v", image.Name, d)
		}
	})
}

// rootMode is what nydusd shows of a root directory's mode: permissions of 0755
// whatever is stored, and its other bits. It does so on purpose, for containers
// whose users are others (get_inode_attr in rafs/src/fs.rs, 2.2.0 and later).
func rootMode(stored uint32) uint32 { return stored&^0o777 | 0o755 }

// mountable says whether nydusd 2.2.0 can mount an image: it knows neither batches
// nor encryption.
func mountable(image mutate.Image) bool { return strings.HasPrefix(image.Name, "v") }

func epoch(t *testing.T, tree *rafs.Tree, path string) bool {
	t.Helper()
	inode, err := tree.Lookup(path)
	require.NoError(t, err)
	return inode.MTime == 0
}

// openAltered opens an image with another bootstrap, out of a layout.
func openAltered(t *testing.T, image mutate.Image, bootstrap []byte) Images {
	t.Helper()
	dir := t.TempDir()
	layers := [][]byte{image.Layer} // the data may lie in an OCI layer
	if len(image.Blobs) > 1 {
		layers = nil
		for _, id := range slices.Sorted(maps.Keys(image.Blobs)) {
			layers = append(layers, image.Blobs[id])
		}
	}
	nydus := &testimage.Nydus{Source: empty.Image}
	for k, stored := range layers {
		name := filepath.Join(dir, fmt.Sprint(k))
		require.NoError(t, os.WriteFile(name, stored, 0o600))
		digest := v1.Hash{Algorithm: "sha256", Hex: fmt.Sprintf("%x", sha256.Sum256(stored))}
		nydus.Blobs = append(nydus.Blobs, testimage.NydusBlob{Digest: digest, Size: int64(len(stored)), Path: name})
	}
	wrapping := testimage.Wrapping{Bootstrap: bootstrap, Compression: "none", Edit: func(m *v1.Manifest) {
		for id := range image.Blobs {
			if len(layers) == 1 && id != nydus.Blobs[0].Digest.Hex {
				m.Layers[0].Annotations[testimage.AnnotationRef] = "sha256:" + id
			}
		}
	}}
	layout := filepath.Join(dir, "layout")
	testimage.WriteLayout(t, layout, map[string]any{"nydus": testimage.Wrap(t, nydus, wrapping)})
	for id, stored := range image.Blobs {
		require.NoError(t, os.WriteFile(filepath.Join(layout, "blobs", "sha256", id), stored, 0o600))
	}
	return openTarget(t, layout+":nydus")
}

// accepted says whether the rules find nothing. That the altered tree is not what its
// layer's gives does not count: who can push can alter that as well.
func accepted(t *testing.T, images Images) bool {
	bootstrap, data, _ := runBlobRules(t, images)
	for _, d := range bootstrap.Differences {
		if field, _, _ := strings.Cut(d.Field, ": "); field != "layers" && (field != layerName(0) && field != layerName(1) || d.Path == pathBootstrap) {
			return false
		}
	}
	if bootstrap.Err != nil || data.Err != nil || len(data.Differences) > 0 {
		return false
	}
	opened, err := images.bootstrap(t.Context())
	require.NoError(t, err)
	manifest := &manifestCheck{images: images}
	manifest.checkBlobTable(t.Context(), opened)
	return len(manifest.errs) == 0 && len(manifest.result.Differences) == 0
}

// readTree is the tree of an image with its data, as a scan reads it to which the user
// allows what the manifest does not vouch for: that is no question of check's.
func readTree(t *testing.T, images Images) Filesystem {
	t.Helper()
	mount, err := nydusmount.Native(t.Context(), images.Target, nydusmount.AllowUnverified(true))
	require.NoError(t, err, "check finds nothing, and it cannot be scanned")
	t.Cleanup(func() { mount.Close() })
	return Tree(mount.Merged.Tree, mount.Merged.Data)
}

// nydusdFeatures are the features of blobs that nydusd 2.2.0 knows. It refuses others
// that later releases define, and drop in v5.
const nydusdFeatures = 0xf000003f

// v5Features returns the features of all blobs of a v5 bootstrap as stored; 0 for
// others.
func v5Features(bootstrap []byte) (all uint32) {
	le := binary.LittleEndian
	const magic, entries, tableAt, entrySize = 0x52414653, 68, 72, 64
	if le.Uint32(bootstrap) != magic {
		return 0
	}
	at, size := le.Uint64(bootstrap[tableAt:]), uint64(len(bootstrap))
	for range le.Uint32(bootstrap[entries:]) {
		if at > size-8 {
			break
		}
		all |= le.Uint32(bootstrap[at+4:])
		at += entrySize
	}
	return all
}
