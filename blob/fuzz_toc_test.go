package blob

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// FuzzTOC alters words of real tables of contents, and computes the digests of the
// parts again, so that what reads parts is reached.
func FuzzTOC(f *testing.F) {
	blobs := seeds(f, "v6-*.blob")
	for k := range blobs {
		f.Add(uint8(k), []byte{}, true, uint16(2))
		for word := range 3 * tocEntrySize / 8 {
			for _, how := range []byte{0, 8, 16, 24} {
				f.Add(uint8(k), []byte{byte(word), 0, how | byte(word)&7, byte(word*7 + 1)}, how != 8, uint16(2))
			}
		}
	}
	setBootstrapLimit(f)
	f.Fuzz(func(t *testing.T, number uint8, changes []byte, mend bool, count uint16) {
		stored := bytes.Clone(blobs[int(number)%len(blobs)])
		end := len(stored) - tarHeaderSize
		name, size, err := readTrailer(t.Context(), &strictSource{t, stored}, int64(len(stored)))
		if err != nil || name != partTOC {
			t.Fatalf("the sample's tail is %q: %v", name, err)
		}
		table := stored[end-int(size) : end]
		copy(table, damaged(table, changes, 8))
		if mend {
			mendDigests(stored, table)
		}
		source := &strictSource{t, stored}
		toc, err := ReadTOC(t.Context(), source)
		if err != nil {
			if !errors.Is(err, ErrNoTOC) {
				requireReason(t, err)
			}
			return
		}
		for _, read := range []func() ([]byte, error){
			func() ([]byte, error) { return toc.Bootstrap(t.Context(), source) },
			func() ([]byte, error) { return toc.Digests(t.Context(), source, uint32(count)) },
		} {
			data, err := read()
			if err == nil && int64(len(data)) > bootstrapLimit {
				t.Errorf("a part of %d bytes, over the limit", len(data))
			}
			again, errAgain := read()
			if !bytes.Equal(data, again) || (err == nil) != (errAgain == nil) {
				t.Errorf("read twice: %d and %d bytes, %v and %v", len(data), len(again), err, errAgain)
			}
		}
	})
}

func setBootstrapLimit(f *testing.F) {
	bootstrapLimit = 1 << 20
	f.Cleanup(func() { bootstrapLimit = MaxBootstrap })
}

// mendDigests computes the digests of the parts that can be read.
func mendDigests(stored, table []byte) {
	le := binary.LittleEndian
	for entry := table; len(entry) >= tocEntrySize; entry = entry[tocEntrySize:] {
		off, length, size := le.Uint64(entry[56:]), le.Uint64(entry[64:]), le.Uint64(entry[72:])
		if off > uint64(len(stored)) || length > uint64(len(stored))-off || size > 1<<20 {
			continue
		}
		compressor, ok := map[uint32]rafs.Compressor{1: rafs.CompressorNone, 2: rafs.CompressorZstd, 4: rafs.CompressorLZ4}[le.Uint32(entry)]
		if !ok {
			continue
		}
		if data, err := decompress(compressor, stored[off:][:length], int(size)); err == nil {
			sum := sha256.Sum256(data)
			copy(entry[24:], sum[:])
		}
	}
}
