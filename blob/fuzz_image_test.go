package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"lukechampine.com/blake3"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/mutate"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// A fuzzedImage is a real image with what is altered of it.
type fuzzedImage struct {
	mutate.Image
	sample *mutate.Sample
	metas  map[string][]byte // by blob ID, as ParseMeta takes them
}

// fuzzedImages are images of every kind, read whole once.
func fuzzedImages(f *testing.F) (all []fuzzedImage) {
	f.Helper()
	for _, image := range mutate.Images(f) {
		sample, err := mutate.New(image.Bootstrap)
		require.NoError(f, err, image.Name)
		i := fuzzedImage{Image: image, sample: sample, metas: make(map[string][]byte)}
		tree, err := rafs.Open(bytes.NewReader(image.Bootstrap), int64(len(image.Bootstrap)))
		require.NoError(f, err, image.Name)
		for _, b := range tree.Blobs() {
			if holder := i.metaHolder(b); holder != nil && HasMeta(b) {
				i.metas[b.ID] = plainMeta(f, holder, b)
			}
		}
		all = append(all, i)
	}
	return all
}

// metaHolder is the blob that holds another's blob.meta; nil where it is not kept.
func (i *fuzzedImage) metaHolder(b rafs.Blob) []byte {
	if b.Features&rafs.BlobSeparate != 0 {
		return i.Layer
	}
	return i.Blobs[b.ID]
}

// plainMeta returns a blob.meta as bootstrap layers carry it.
func plainMeta(f *testing.F, holder []byte, b rafs.Blob) []byte {
	f.Helper()
	stored := holder[b.Meta.Offset:]
	table, header := stored[:b.Meta.CompressedSize], stored[b.Meta.CompressedSize:][:metaHeaderSize]
	secret, err := newDecrypter(b)
	require.NoError(f, err)
	if secret != nil {
		table, err = secret.decrypt(table)
		require.NoError(f, err)
		header, err = secret.decrypt(header)
		require.NoError(f, err)
	}
	table, err = decompress(b.Meta.Compressor, table, int(b.Meta.UncompressedSize))
	require.NoError(f, err)
	return append(bytes.Clone(table), header...)
}

// FuzzImage reads all files of real images of which the bootstrap, the tables of
// chunks with their contexts, and the data have been altered. recipe is that of
// package mutate, meta and data are changes of four bytes each: a place and what is
// done there.
func FuzzImage(f *testing.F) {
	images := fuzzedImages(f)
	random := rand.New(rand.NewPCG(10, 1))
	for k, i := range images {
		f.Add(uint8(k), []byte{}, []byte{}, []byte{})
		for n, name := range i.sample.Names() {
			f.Add(uint8(k), append([]byte{byte(n) % 4}, i.sample.Step(name, uint16(n), byte(n), byte(31*n))...), []byte{}, []byte{})
		}
		for range 30 {
			change := binary.LittleEndian.AppendUint32(nil, random.Uint32())
			f.Add(uint8(k), []byte{}, change, []byte{})
			f.Add(uint8(k), []byte{}, []byte{}, change)
		}
	}
	f.Fuzz(func(t *testing.T, number uint8, recipe, meta, data []byte) {
		i := images[int(number)%len(images)]
		bootstrap := i.sample.Apply(recipe)
		tree, err := rafs.Open(bytes.NewReader(bootstrap), int64(len(bootstrap)))
		if err != nil {
			return
		}
		sound := len(recipe)+len(meta)+len(data) == 0
		// What one reader remembers, another does not.
		read, missing := i.reads(t, tree, meta, data, sound)
		readAgain, missingAgain := i.reads(t, tree, meta, data, sound)
		require.Equal(t, [2]int{read, missing}, [2]int{readAgain, missingAgain}, "chunks read and not, twice")
	})
}

// reads reads all files of a tree with a reader of its own, of tables of chunks and
// data with changes.
func (i *fuzzedImage) reads(t *testing.T, tree *rafs.Tree, meta, data []byte, sound bool) (read, missing int) {
	sources := make(map[string]Source)
	for id, stored := range i.Blobs {
		sources[id] = &strictSource{t, damaged(stored, data, 1)}
	}
	r := NewReader(sources)
	for _, b := range tree.Blobs() {
		if b.Features&rafs.BlobSeparate != 0 {
			readsMeta(t, &strictSource{t, i.Layer}, b)
		} else if source, ok := sources[b.ID]; ok {
			readsMeta(t, source, b)
		}
		file := i.metas[b.ID]
		if file == nil {
			continue
		}
		m, err := ParseMeta(damaged(file, meta, 8), b)
		requireReason(t, err)
		if err == nil {
			r.SetMeta(b.ID, m)
		}
	}
	return readsFiles(t, tree, r.Tree(t.Context(), tree.Blobs(), ""), sound)
}

// damaged returns a copy with changes: each a place, in units, and what is done.
func damaged(stored, changes []byte, unit int) []byte {
	if len(changes) < 4 {
		return stored
	}
	stored = bytes.Clone(stored)
	for ; len(changes) >= 4; changes = changes[4:] {
		// The end, where a table's header is, is met as often as the rest.
		at := int(binary.LittleEndian.Uint16(changes)) * unit
		if length := len(stored); changes[2]&0x80 != 0 && length > metaHeaderSize {
			at = length - metaHeaderSize + at%128
		}
		at = (at + int(changes[2]&7)%unit) % len(stored)
		switch changes[2] >> 3 & 3 {
		case 0:
			stored[at] = changes[3]
		case 1:
			stored[at] += changes[3]
		case 2:
			stored[at] ^= 1 << (changes[3] % 8)
		case 3: // what stands a few units away
			stored[at] = stored[(at+unit*int(changes[3]))%len(stored)]
		}
	}
	return stored
}

func readsMeta(t *testing.T, source Source, b rafs.Blob) {
	if !HasMeta(b) {
		return
	}
	m, err := ReadMeta(t.Context(), source, b)
	requireReason(t, err)
	if err == nil {
		require.EqualValues(t, b.ChunkCount, m.Len())
	}
}

// readsFiles reads all files, at most 1 MiB of each: what is read is what the
// digests name, and as long as it says. It counts chunks.
func readsFiles(t *testing.T, tree *rafs.Tree, data *TreeReader, sound bool) (read, missing int) {
	blobs := tree.Blobs()
	_ = tree.Walk(func(path string, inode rafs.Inode) error {
		if !inode.IsRegular() {
			return nil
		}
		chunks, err := inode.Chunks()
		if err != nil {
			return nil
		}
		if len(path)%2 == 0 { // loaded before, in few requests
			release, err := data.Load(t.Context(), chunks[:min(len(chunks), 20)])
			requireReason(t, err)
			defer release()
		}
		for k := range chunks[:min(len(chunks), 20)] {
			c := &chunks[k]
			content, err := data.ReadChunk(c)
			requireReason(t, err)
			if err != nil {
				require.Nil(t, content)
				missing++
				if _, there := data.reader.sources[blobs[c.Blob].ID]; sound && there {
					t.Errorf("%s: %v", path, err)
				}
				continue
			}
			read++
			require.Len(t, content, int(c.UncompressedSize))
			sum := blake3.Sum256(content) // not by what is tested
			if blobs[c.Blob].Digester == rafs.SHA256 {
				sum = sha256.Sum256(content)
			}
			require.Equal(t, c.Digest, sum, path)
			again, err := data.ReadChunk(c)
			require.NoError(t, err, "read again")
			require.True(t, bytes.Equal(content, again), "read again")
		}
		const most = 1 << 20
		file := inode.Open(path, data)
		n, err := io.Copy(io.Discard, io.LimitReader(file, most))
		requireReason(t, err)
		require.NoError(t, file.Close())
		if err == nil {
			require.Equal(t, min(inode.Size, most), n, path)
		}
		return nil
	})
	if sound {
		require.NotZero(t, read, "nothing of the sound image was read")
	}
	require.Zero(t, pinned(data.reader), "entries that nobody lets go of")
	require.LessOrEqual(t, data.reader.idle.bytes, data.reader.kept)
	return read, missing
}

// requireReason fails if an error has none of the classes that a scan tells apart.
func requireReason(t *testing.T, err error) {
	t.Helper()
	for _, class := range []error{nil, rafs.ErrCorrupt, rafs.ErrUnsupported, ErrDigest, ErrIncomplete} {
		if errors.Is(err, class) {
			return
		}
	}
	t.Errorf("an error of no class: %v", err)
}

// A strictSource fails the test where more is asked for than there is.
type strictSource struct {
	t    *testing.T
	data []byte
}

func (s *strictSource) Size() int64 { return int64(len(s.data)) }

func (s *strictSource) ReadRange(_ context.Context, p []byte, off int64) error {
	if off < 0 || off > int64(len(s.data)) || int64(len(p)) > int64(len(s.data))-off {
		s.t.Errorf("%d bytes at %d are asked for, of a blob of %d", len(p), off, len(s.data))
		return ErrIncomplete
	}
	copy(p, s.data[off:])
	return nil
}
