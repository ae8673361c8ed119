package testimage

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// indexLayer makes the blob of a layer that stays where it is: an index to its gzip stream, as nydusify --oci-ref and
// nydus-snapshotter v0.16.1 do. The layer goes beside it, as it is stored, since nydusd reads the data there.
func indexLayer(nydusImage, dir string, l v1.Layer, _ ConvertOptions) (convertedBlob, error) {
	ref, err := l.Digest()
	if err != nil {
		return convertedBlob{}, err
	}
	layerFile, blobFile := filepath.Join(dir, blobDir, ref.Hex), filepath.Join(dir, "layer.blob")
	if err := storeCompressed(l, layerFile); err != nil {
		return convertedBlob{}, fmt.Errorf("store the layer: %w", err)
	}
	if err := runNydusImage(nydusImage, dir, "create", "--log-level", "warn", "--type", "targz-ref", "--blob-inline-meta",
		"--features", "blob-toc", "--blob", blobFile, layerFile); err != nil {
		return convertedBlob{}, err
	}
	return storeBlob(dir, blobFile, ref)
}

// referArgs tells nydus-image merge, which knows blobs by the layers that hold their data, the blobs themselves.
func referArgs(dir string, blobs []convertedBlob) ([]string, error) {
	var digests, sizes, tocs []string
	for _, b := range blobs {
		if b.Ref == (v1.Hash{}) {
			return nil, nil
		}
		toc, err := readTOC(filepath.Join(dir, blobDir, b.Digest.Hex))
		if err != nil {
			return nil, err
		}
		digests = append(digests, b.Digest.Hex)
		sizes = append(sizes, strconv.FormatInt(b.Size, 10))
		// Without its tar header, as nydus-snapshotter does.
		tocs = append(tocs, fmt.Sprintf("%x", sha256.Sum256(toc[:len(toc)-tarHeaderSize])))
	}
	return []string{"--blob-digests", strings.Join(digests, ","), "--blob-sizes", strings.Join(sizes, ","),
		"--blob-toc-digests", strings.Join(tocs, ",")}, nil
}

func storeCompressed(l v1.Layer, name string) error { return copyLayer(l.Compressed, name) }

// Members returns the image with its layers compressed anew, into gzip members of size bytes of tar each, as pigz and
// concatenated files have them.
func Members(t testing.TB, oci v1.Image, size int64) v1.Image {
	t.Helper()
	img, err := members(oci, size)
	if err != nil {
		t.Fatalf("compress layers into several members: %v", err)
	}
	return img
}

func members(oci v1.Image, size int64) (v1.Image, error) {
	config, err := oci.ConfigFile()
	if err != nil {
		return nil, err
	}
	layers, err := oci.Layers()
	if err != nil {
		return nil, err
	}
	var packed []partial.CompressedLayer
	for i, l := range layers {
		data, err := packMembers(l, size)
		if err != nil {
			return nil, fmt.Errorf("layer %d: %w", i, err)
		}
		packed = append(packed, &bytesLayer{data: data, mediaType: types.OCILayer, diff: config.RootFS.DiffIDs[i]})
	}
	return newImage(config, types.OCIConfigJSON, packed, make([]map[string]string, len(packed)), nil)
}

func packMembers(l v1.Layer, size int64) ([]byte, error) {
	plain, err := l.Uncompressed()
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	for {
		w.Reset(&packed)
		n, err := io.CopyN(w, plain, size)
		if n > 0 {
			err = errors.Join(err, w.Close())
		}
		if errors.Is(err, io.EOF) {
			return packed.Bytes(), nil
		}
		if err != nil {
			return nil, err
		}
	}
}
