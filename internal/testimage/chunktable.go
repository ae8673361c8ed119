package testimage

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/klauspost/compress/gzip"
)

// Offsets in a v6 bootstrap: of fields of the extended superblock, and in an entry of the blob table.
const (
	superBlobTable  = 1152 + 8  // offset u64, size u32
	superChunkTable = 1152 + 24 // offset u64, size u64
	blobEntrySize   = 256
	blobTOCSize     = 104 // u32
	blobTOCDigest   = 136
)

// WithoutChunkTable returns a v6 bootstrap without the table of its chunks: then only the blobs say where chunks lie and what
// they hash to. Nydusd allows that (direct_v6.rs), no released builder does it.
func WithoutChunkTable(bootstrap []byte) []byte {
	out, le := bytes.Clone(bootstrap), binary.LittleEndian
	at, size := le.Uint64(out[superChunkTable:]), le.Uint64(out[superChunkTable+8:])
	clear(out[at : at+size])
	clear(out[superChunkTable : superChunkTable+16])
	return out
}

// WithTOCDigests returns a v6 bootstrap whose blob table has the digests of the blobs' tables of contents, which converters leave
// out. The blobs are files in a folder, by their IDs.
func WithTOCDigests(t testing.TB, bootstrap []byte, blobs string) []byte {
	t.Helper()
	out, le := bytes.Clone(bootstrap), binary.LittleEndian
	table := out[le.Uint64(out[superBlobTable:]):][:le.Uint32(out[superBlobTable+8:])]
	for ; len(table) > 0; table = table[blobEntrySize:] {
		toc, err := readTOC(filepath.Join(blobs, string(bytes.TrimRight(table[:64], "\x00"))))
		if err != nil {
			t.Fatal(err)
		}
		digest := sha256.Sum256(toc)
		le.PutUint32(table[blobTOCSize:], uint32(len(toc)))
		copy(table[blobTOCDigest:], digest[:])
	}
	return out
}

// AlterBootstrap returns a Nydus image with another merged bootstrap in its bootstrap layer, and all else as it was.
func AlterBootstrap(t testing.TB, img v1.Image, alter func(bootstrap []byte) []byte) v1.Image {
	t.Helper()
	out, err := alterBootstrap(img, alter)
	if err != nil {
		t.Fatalf("alter the bootstrap of a Nydus image: %v", err)
	}
	return out
}

func alterBootstrap(img v1.Image, alter func([]byte) []byte) (v1.Image, error) {
	manifest, err := img.Manifest()
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	stored, err := img.Layers()
	if err != nil {
		return nil, err
	}
	last := len(stored) - 1
	packed, err := stored[last].Compressed()
	if err != nil {
		return nil, err
	}
	defer packed.Close()
	archive, err := alterArchive(packed, alter)
	if err != nil {
		return nil, err
	}
	bootstrap, _, err := (&Wrapping{}).bootstrapLayer(archive)
	if err != nil {
		return nil, err
	}
	var layers []partial.CompressedLayer
	var annotations []map[string]string
	for i, l := range stored {
		annotations = append(annotations, manifest.Layers[i].Annotations)
		if i < last {
			layers = append(layers, l)
		}
	}
	config = config.DeepCopy()
	config.RootFS.DiffIDs[last] = bootstrap.diff
	return newImage(config, manifest.Config.MediaType, append(layers, bootstrap), annotations, manifest.Annotations)
}

// alterArchive reads a bootstrap layer of tar+gzip and returns its tar with another bootstrap.
func alterArchive(packed io.Reader, alter func([]byte) []byte) ([]byte, error) {
	unzip, err := gzip.NewReader(packed)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	r, w := tar.NewReader(unzip), tar.NewWriter(&out)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out.Bytes(), w.Close()
		}
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return nil, err
		}
		if h.Name == "image/"+bootstrapFile {
			data = alter(data)
		}
		h.Size = int64(len(data))
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(data); err != nil {
			return nil, err
		}
	}
}
