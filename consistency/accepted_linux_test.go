package consistency

import (
	"bytes"
	"context"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/blob"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/mutate"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// FuzzAccepted alters fields of real bootstraps of every kind. What Check finds
// nothing in, and of which all data can be read and is what the digests say, the
// real nydusd mounts, and it shows the same: names, attributes, content.
func FuzzAccepted(f *testing.F) {
	images := mutate.Images(f)
	samples := make([]*mutate.Sample, len(images))
	random := rand.New(rand.NewPCG(3, 7))
	for k, image := range images {
		var err error
		samples[k], err = mutate.New(image.Bootstrap)
		require.NoError(f, err)
		if !complete(image) {
			continue
		}
		f.Add(uint8(k), []byte{})
		// Of all names, those that few checks look at.
		for _, name := range []string{"inode mode", "inode uid", "inode mtime", "name byte", "target byte", "xattr byte", "chunk digest"} {
			f.Add(uint8(k), append([]byte{0}, samples[k].Step(name, uint16(random.Uint32()), byte(random.Uint32()), byte(random.Uint32()))...))
		}
		f.Add(uint8(k), []byte{mutate.MoveTable | byte(k)<<5})
		// The root's: no longer others' to search, but sticky and setgid.
		root := []byte{0}
		for _, bit := range []byte{0, 9, 10} {
			root = append(root, samples[k].Step("inode mode", 0, 6, bit)...)
		}
		f.Add(uint8(k), root)
	}
	f.Fuzz(func(t *testing.T, number uint8, recipe []byte) {
		image := images[int(number)%len(images)]
		if !complete(image) {
			return
		}
		bootstrap := samples[int(number)%len(images)].Apply(recipe)
		tree, data := accepted(t, image, bootstrap)
		if tree == nil {
			require.NotEmpty(t, recipe, "%s: the sample itself is refused", image.Name)
			return
		}
		dir := t.TempDir()
		name := filepath.Join(dir, "bootstrap")
		require.NoError(t, os.WriteFile(name, bootstrap, 0o600))
		for id, stored := range image.Blobs {
			require.NoError(t, os.WriteFile(filepath.Join(dir, id), stored, 0o600))
		}
		mounted := testimage.Mount(t, name, dir)
		found, err := Compare(Tree(tree, data), Dir(mounted))
		require.NoError(t, err)
		for _, d := range found {
			if d.Field == "mtime" && epoch(t, tree, d.Path) {
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

// complete says whether all of an image's blobs are there, in forms that nydusd
// 2.2.0 mounts.
func complete(image mutate.Image) bool {
	return image.Name[0] == 'v' && image.Name != "v6-zran"
}

func epoch(t *testing.T, tree *rafs.Tree, path string) bool {
	t.Helper()
	inode, err := tree.Lookup(path)
	require.NoError(t, err)
	return inode.MTime == 0
}

// accepted opens a bootstrap in which Check finds nothing, and of which all data can
// be read; nil for any other.
func accepted(t *testing.T, image mutate.Image, bootstrap []byte) (*rafs.Tree, rafs.ChunkReader) {
	t.Helper()
	tree, err := rafs.Open(bytes.NewReader(bootstrap), int64(len(bootstrap)))
	if err != nil {
		return nil, nil
	}
	// nydusd 2.2.0 refuses features that later releases define, and drop in v5.
	if v5Features(bootstrap) != v5Features(image.Bootstrap) {
		return nil, nil
	}
	problems := 0
	tree.Check(blob.Sum, func(rafs.Problem) { problems++ })
	if problems > 0 {
		return nil, nil
	}
	sources := make(map[string]blob.Source)
	metas := make(map[int]*blob.Meta)
	for id, stored := range image.Blobs {
		sources[id] = storedBlob(stored)
	}
	for k, b := range tree.Blobs() {
		if b.Features&(rafs.BlobInlinedMeta|rafs.BlobSeparate) != 0 {
			return nil, nil // by the rules of the whole image: that of the merged tree, and the missing blob.meta
		}
		if source, ok := sources[b.ID]; ok && blob.HasMeta(b) {
			if metas[k], err = blob.ReadMeta(t.Context(), source, b); err != nil {
				return nil, nil
			}
		}
	}
	data := blob.NewReader(sources).Tree(t.Context(), tree.Blobs(), "")
	err = tree.Walk(func(_ string, i rafs.Inode) error {
		if !i.IsRegular() {
			return nil
		}
		chunks, err := i.Chunks()
		if err != nil {
			return err
		}
		for k := range chunks {
			if m := metas[chunks[k].Blob]; m != nil {
				if err := m.Check(&chunks[k]); err != nil {
					return err
				}
			}
			if _, err := data.ReadChunk(&chunks[k]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, nil
	}
	return tree, data
}

// v5Features returns the features of the first blob of a v5 bootstrap as stored; 0
// for others.
func v5Features(bootstrap []byte) uint32 {
	le := binary.LittleEndian
	const magic, tableAt = 0x52414653, 72
	if le.Uint32(bootstrap) != magic {
		return 0
	}
	at := le.Uint64(bootstrap[tableAt:])
	if at > uint64(len(bootstrap)-8) {
		return 0
	}
	return le.Uint32(bootstrap[at+4:])
}

// A storedBlob is a [blob.Source] in memory.
type storedBlob []byte

func (s storedBlob) Size() int64 { return int64(len(s)) }

func (s storedBlob) ReadRange(_ context.Context, p []byte, off int64) error {
	copy(p, s[off:])
	return nil
}
