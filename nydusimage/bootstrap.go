package nydusimage

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/zstd"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/blob"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// The files of a bootstrap layer's archive.
const (
	fileBootstrap       = "image/image.boot"
	fileBootstrapLegacy = "image.boot" // converters before nydus-snapshotter
	fileBackend         = "image/backend.json"
	folderFiles         = "image/"
	suffixMeta          = ".blob.meta"
)

// A Bootstrap is what the bootstrap layer of an image holds.
type Bootstrap struct {
	// Tree is the merged tree of the image.
	Tree *rafs.Tree
	// File is the file that Tree was opened from.
	File []byte
	// Metas are the blob.meta files, by blob ID.
	Metas map[string][]byte
	// Backend is the file that names where the data lies, if not in the layers of
	// the manifest (backend.json, JSON as nydusify writes it); nil without one. It
	// is a claim of whoever made the image: nothing may be fetched from there.
	Backend []byte

	layer []byte // the archive, verified and decrypted: see DiffID
}

// kindBootstrap is where a [MetadataCache] keeps bootstrap layers.
const kindBootstrap = "bootstraps"

// Bootstrap fetches the bootstrap layer, checks its digest and opens it.
func (i *Image) Bootstrap(ctx context.Context) (*Bootstrap, error) {
	d := i.BootstrapLayer
	b, err := i.readBootstrap(ctx, d)
	if err != nil {
		return nil, fmt.Errorf("bootstrap layer %s: %w", d.Digest, err)
	}
	return b, nil
}

func (i *Image) readBootstrap(ctx context.Context, d v1.Descriptor) (*Bootstrap, error) {
	key, err := i.layerKey(d)
	if err != nil {
		return nil, err
	}
	data := i.Metadata.Get(kindBootstrap, d.Digest.String())
	if data == nil || checkDigest(data, d.Digest) != nil {
		if data, err = readBlob(ctx, i.store, d, maxBootstrapLayer); err != nil {
			return nil, err
		}
		// Without a cache the next scan is slower, no more.
		_ = i.Metadata.Put(kindBootstrap, d.Digest.String(), data)
	}
	if key != nil {
		if data, err = key.Decrypt(data); err != nil {
			return nil, encryptionError(err)
		}
	}
	archive, err := uncompressed(data)
	if err != nil {
		return nil, err
	}
	defer archive.Close()
	b, err := unpackBootstrapLayer(archive)
	if err != nil {
		return nil, err
	}
	b.layer = data
	b.Tree, err = rafs.Open(bytes.NewReader(b.File), int64(len(b.File)))
	return b, err
}

// uncompressed tells gzip, zstd and plain tar by their first bytes: media types
// of old images are not to be relied on.
func uncompressed(data []byte) (io.ReadCloser, error) {
	switch {
	case bytes.HasPrefix(data, []byte{0x1f, 0x8b}):
		r, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			return nil, fmt.Errorf("gzip: %w: %w", rafs.ErrCorrupt, err)
		}
		return r, nil
	case bytes.HasPrefix(data, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		r, err := zstd.NewReader(bytes.NewReader(data), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return nil, fmt.Errorf("zstd: %w: %w", rafs.ErrCorrupt, err)
		}
		return r.IOReadCloser(), nil
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

// maxUnpacked bounds what a bootstrap layer unpacks to; tests lower it.
var maxUnpacked int64 = blob.MaxBootstrap

// unpackBootstrapLayer reads the archive into memory, at most maxUnpacked bytes
// of it, and opens no tree.
func unpackBootstrapLayer(archive io.Reader) (*Bootstrap, error) {
	limited := &io.LimitedReader{R: archive, N: maxUnpacked}
	left := maxUnpacked // apart from limited: a sparse file's holes are not in the archive
	files := tar.NewReader(limited)
	b := &Bootstrap{Metas: make(map[string][]byte)}
	for {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, unpackError(limited, err)
		}
		name := strings.TrimPrefix(header.Name, "./")
		id, isMeta := strings.CutSuffix(strings.TrimPrefix(name, folderFiles), suffixMeta)
		isBootstrap := name == fileBootstrap || name == fileBootstrapLegacy
		switch {
		case header.Typeflag != tar.TypeReg:
			continue
		case !isMeta && !isBootstrap && name != fileBackend:
			continue
		case header.Size > left:
			return nil, errUnpacked()
		}
		left -= header.Size
		var content bytes.Buffer
		if _, err := io.Copy(&content, files); err != nil {
			return nil, unpackError(limited, err)
		}
		switch {
		case isMeta:
			b.Metas[id] = content.Bytes()
		case !isBootstrap:
			b.Backend = append([]byte{}, content.Bytes()...) // there, though it may be empty
		case b.File != nil:
			return nil, fmt.Errorf("it holds two bootstraps: %w", ErrInvalid)
		default:
			b.File = content.Bytes()
		}
	}
	if b.File == nil {
		return nil, fmt.Errorf("it holds no %s: %w", fileBootstrap, ErrInvalid)
	}
	return b, nil
}

func unpackError(limited *io.LimitedReader, err error) error {
	if limited.N <= 0 {
		return errUnpacked()
	}
	return fmt.Errorf("unpack it: %w: %w", rafs.ErrCorrupt, err)
}

func errUnpacked() error {
	return fmt.Errorf("it unpacks to more than %d bytes: %w", maxUnpacked, rafs.ErrCorrupt)
}
