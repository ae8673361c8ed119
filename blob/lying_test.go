package blob

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// header is the tar header that follows a part of a blob.
func header(t *testing.T, name string, size int64) []byte {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, tar.NewWriter(&b).WriteHeader(&tar.Header{Name: name, Size: size, Mode: 0o644}))
	return b.Bytes()
}

// TestLyingTOC reads tables of contents whose numbers are made up.
func TestLyingTOC(t *testing.T) {
	content := []byte("this is the bootstrap")
	entry := func(flags uint32, off, stored, size uint64) []byte {
		e := make([]byte, tocEntrySize)
		binary.LittleEndian.PutUint32(e, flags)
		copy(e[8:], PartBootstrap)
		sum := sha256.Sum256(content)
		copy(e[24:], sum[:])
		binary.LittleEndian.PutUint64(e[56:], off)
		binary.LittleEndian.PutUint64(e[64:], stored)
		binary.LittleEndian.PutUint64(e[72:], size)
		return e
	}
	n := uint64(len(content))
	table := func(entries ...[]byte) []byte {
		toc := bytes.Join(entries, nil)
		return bytes.Join([][]byte{content, toc, header(t, partTOC, int64(len(toc)))}, nil)
	}
	for _, c := range []struct {
		name string
		blob []byte
		err  error // nil for none
	}{
		{"the truth", table(entry(1, 0, n, n)), nil},
		{"the truth after another part", table(named(entry(1, 0, n, n), "image.blob"), entry(1, 0, n, n)), nil},
		{"a size beyond the blob", table(entry(1, 0, 1<<40, 1<<40)), ErrIncomplete},
		{"an offset beyond the blob", table(entry(1, 1<<40, n, n)), ErrIncomplete},
		{"an offset that wraps around", table(entry(1, 1<<63, n, n)), ErrIncomplete},
		{"a size that wraps around", table(entry(1, 8, ^uint64(0), n)), ErrIncomplete},
		{"another uncompressed size", table(entry(1, 0, n, n+1)), rafs.ErrCorrupt},
		{"an uncompressed size over the limit", table(entry(2, 0, n, 1<<40)), rafs.ErrCorrupt},
		{"a negative uncompressed size", table(entry(2, 0, n, 1<<63)), rafs.ErrCorrupt},
		{"zstd that is none", table(entry(2, 0, n, n)), rafs.ErrCorrupt},
		{"lz4 that is none", table(entry(4, 0, n, n)), rafs.ErrCorrupt},
		{"other bytes", table(entry(1, 1, n, n)), ErrDigest},
		{"an unknown compression", table(entry(8, 0, n, n)), rafs.ErrUnsupported},
		{"no bootstrap", table(named(entry(1, 0, n, n), "image.blob")), ErrNoTOC},
		{"no entry", table(), ErrNoTOC},
		{"half an entry", table(entry(1, 0, n, n)[:64]), rafs.ErrCorrupt},
		{"too many entries", table(bytes.Repeat(entry(1, 0, n, n), 65)), rafs.ErrCorrupt},
		{"a table larger than the blob", header(t, partTOC, 1<<30), rafs.ErrCorrupt},
		{"a v5 bootstrap larger than the blob", header(t, PartBootstrap, 1), rafs.ErrCorrupt},
		{"another archive's tail", header(t, "etc/passwd", 0), ErrNoTOC},
		{"zeros", make([]byte, 4096), ErrNoTOC},
		{"noise", noise(4096), ErrNoTOC},
		{"nothing", nil, ErrNoTOC},
		{"less than a header", noise(511), ErrNoTOC},
	} {
		t.Run(c.name, func(t *testing.T) {
			source := &memory{data: c.blob}
			toc, err := ReadTOC(t.Context(), source)
			var bootstrap []byte
			if err == nil {
				bootstrap, err = toc.Bootstrap(t.Context(), source)
			}
			if c.err != nil {
				assert.ErrorIs(t, err, c.err)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, content, bootstrap)
		})
	}
	_, err := ReadTOC(t.Context(), &memory{data: table(entry(1, 0, n, n)), fail: func(int) error { return ErrIncomplete }})
	assert.ErrorIs(t, err, ErrIncomplete)
	assert.False(t, errors.Is(err, ErrNoTOC), "a tail that cannot be read is not one that is missing")
}

// named gives a table's entry another name.
func named(entry []byte, name string) []byte {
	clear(entry[8:24])
	copy(entry[8:24], name)
	return entry
}

// TestLyingMeta reads blob.meta where the blob table's numbers are made up.
func TestLyingMeta(t *testing.T) {
	const size = 16
	table := make([]byte, size+metaHeaderSize)
	for _, magic := range []int{size, len(table) - 4} {
		binary.LittleEndian.PutUint32(table[magic:], metaMagic)
	}
	binary.LittleEndian.PutUint32(table[size+12:], 1)
	truth := rafs.Blob{ChunkCount: 1, Meta: rafs.BlobMeta{CompressedSize: size, UncompressedSize: size}}
	_, err := ReadMeta(t.Context(), &memory{data: table}, truth)
	require.NoError(t, err)
	for _, c := range []struct {
		name   string
		change func(*rafs.Blob)
		err    error
	}{
		{"an offset behind the blob", func(b *rafs.Blob) { b.Meta.Offset = 1 }, ErrIncomplete},
		{"an offset that wraps around", func(b *rafs.Blob) { b.Meta.Offset = 1 << 63 }, rafs.ErrCorrupt},
		{"a size that wraps around", func(b *rafs.Blob) { b.Meta.CompressedSize = 1 << 63 }, rafs.ErrCorrupt},
		{"a size behind the blob", func(b *rafs.Blob) { b.Meta.CompressedSize = size + 1 }, ErrIncomplete},
		{"another uncompressed size", func(b *rafs.Blob) { b.Meta.UncompressedSize = size + 1 }, rafs.ErrCorrupt},
		{"an uncompressed size over the limit", func(b *rafs.Blob) { b.Meta.UncompressedSize = 1 << 40 }, rafs.ErrCorrupt},
		{"another number of chunks", func(b *rafs.Blob) { b.ChunkCount = 2 }, rafs.ErrCorrupt},
		{"entries of another form", func(b *rafs.Blob) { b.Features = rafs.BlobChunkInfoV2 }, rafs.ErrCorrupt},
		{"no table", func(b *rafs.Blob) { b.Meta = rafs.BlobMeta{}; b.ChunkCount = 0 }, rafs.ErrCorrupt},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := truth
			c.change(&b)
			_, err := ReadMeta(t.Context(), &memory{data: table}, b)
			assert.ErrorIs(t, err, c.err)
		})
	}
	for _, size := range []uint64{size + 1, 1 << 40, 1 << 63, ^uint64(0)} {
		b := truth
		b.Meta.UncompressedSize = size
		_, err := ParseMeta(table, b)
		assert.ErrorIs(t, err, rafs.ErrCorrupt, "a table of %d bytes", size)
	}
	_, err = ParseMeta(table[:metaHeaderSize-1], rafs.Blob{})
	assert.ErrorIs(t, err, rafs.ErrCorrupt, "half a header")
}
