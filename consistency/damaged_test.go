package consistency

import (
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// FuzzDamagedBootstrap alters one byte of a bootstrap. Where the digests still
// vouch for the old one, the check cannot be completed. Where they vouch for the
// new one, as whoever can push can have it, both images are the same only if the
// byte says nothing of what a container sees.
func FuzzDamagedBootstrap(f *testing.F) {
	var sound []pairLayout
	for _, version := range []string{"5", "6"} {
		sound = append(sound, newPair(f, testimage.ConvertOptions{FSVersion: version}))
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		f.Add(false, random.Uint32(), byte(1+random.UintN(255)), true)
		f.Add(true, random.Uint32(), byte(1+random.UintN(255)), true)
		f.Add(true, random.Uint32(), byte(1+random.UintN(255)), false)
	}
	f.Fuzz(func(t *testing.T, v6 bool, offset uint32, flip byte, vouched bool) {
		if flip == 0 {
			return
		}
		whole := sound[0]
		if v6 {
			whole = sound[1]
		}
		p := pairLayout{t, t.TempDir()}
		require.NoError(t, os.CopyFS(p.dir, os.DirFS(whole.dir)))
		alter := func(b []byte) { b[int(offset)%len(b)] ^= flip }
		if vouched {
			p.alterBootstrap(alter)
		} else {
			images := openPair(t, p.dir+":oci", p.dir+":nydus")
			name := p.blob(images.Target.BootstrapLayer.Digest.String())
			layer, err := os.ReadFile(name)
			require.NoError(t, err)
			alter(layer)
			require.NoError(t, os.WriteFile(name, layer, 0o644))
		}
		images := openPair(t, p.dir+":oci", p.dir+":nydus")
		report, err := Check(t.Context(), images, Options{})
		require.NoError(t, err)
		switch {
		case !vouched:
			require.Equal(t, Incomplete, report.Verdict())
		case report.Verdict() == Equal && !sameTree(t, openBootstrap(t, whole), openBootstrap(t, p)):
			// Digests are right, but a chunk lies elsewhere: reading shows it.
			report, err := Check(t.Context(), images, Options{Data: DepthFull})
			require.NoError(t, err)
			require.NotEqual(t, Equal, report.Verdict())
		}
	})
}

// openBootstrap opens the bootstrap of the Nydus image.
func openBootstrap(t *testing.T, p pairLayout) *rafs.Tree {
	t.Helper()
	image, err := nydusimage.Open(t.Context(), p.dir+":nydus", nydusimage.Options{})
	require.NoError(t, err)
	defer image.Close()
	bootstrap, err := image.Bootstrap(t.Context())
	require.NoError(t, err)
	return bootstrap.Tree
}

// A seen is what a container sees under a path.
type seen struct {
	path  string
	node  Node
	parts []rafs.Chunk
}

// sameTree says whether two trees are the same in all that a container sees.
func sameTree(t *testing.T, want, got *rafs.Tree) bool {
	t.Helper()
	return assert.ObjectsAreEqual(blobsSeen(want), blobsSeen(got)) && assert.ObjectsAreEqual(show(t, want), show(t, got))
}

func show(t *testing.T, tree *rafs.Tree) (all []seen) {
	t.Helper()
	require.NoError(t, Tree(tree, nil).Walk(func(n Node) error {
		inode, err := tree.Lookup(n.Path)
		require.NoError(t, err)
		chunks, err := inode.Chunks()
		require.NoError(t, err)
		n.Open, n.content, n.metadata = nil, nil, nil // the chunks say it
		for i := range chunks {
			chunks[i].CRC32 = 0                                                             // the digest counts
			chunks[i].Flags &= rafs.ChunkCompressed | rafs.ChunkEncrypted | rafs.ChunkBatch // readers know no others
		}
		if n.Path == "." {
			n.MTime = time.Time{} // every converter loses it: a note
		}
		all = append(all, seen{n.Path, n, chunks})
		return nil
	}))
	return all
}

// blobsSeen is the blob table without what a reader does not follow: sizes, which
// are bounds for the chunks, how to read ahead, and what only blobs have whose
// blob.meta lies in another.
func blobsSeen(tree *rafs.Tree) []rafs.Blob {
	blobs := slices.Clone(tree.Blobs())
	for i := range blobs {
		b := &blobs[i]
		b.CompressedSize, b.UncompressedSize, b.ReadaheadOffset, b.ReadaheadSize = 0, 0, 0, 0
		b.Features &= rafs.BlobZran | rafs.BlobBatch | rafs.BlobEncrypted | rafs.BlobSeparate | rafs.BlobTarfs | rafs.BlobExternal
		if b.Meta == (rafs.BlobMeta{}) {
			b.ChunkCount = 0 // a bound, too, where no blob.meta has to agree
		}
		if b.Features&rafs.BlobSeparate == 0 {
			b.MetaDigest, b.MetaSize = [32]byte{}, 0
		}
	}
	return blobs
}
