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

// bootstrapLayer is a bootstrap layer unpacked.
type bootstrapLayer struct {
	bootstrap []byte
	metas     map[string][]byte // by blob ID
}

func readBootstrapLayer(ctx context.Context, where store, d v1.Descriptor) (*bootstrapLayer, error) {
	if strings.HasSuffix(string(d.MediaType), "+encrypted") {
		return nil, fmt.Errorf("media type %q: encrypted bootstrap layers are not read yet: %w", d.MediaType, rafs.ErrUnsupported)
	}
	data, err := readBlob(ctx, where, d, maxBootstrapLayer)
	if err != nil {
		return nil, err
	}
	archive, err := uncompressed(data)
	if err != nil {
		return nil, err
	}
	defer archive.Close()
	return unpackBootstrapLayer(archive)
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
// of it.
func unpackBootstrapLayer(archive io.Reader) (*bootstrapLayer, error) {
	limited := &io.LimitedReader{R: archive, N: maxUnpacked}
	left := maxUnpacked // apart from limited: a sparse file's holes are not in the archive
	files := tar.NewReader(limited)
	layer := &bootstrapLayer{metas: make(map[string][]byte)}
	for {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, unpackError(limited, err)
		}
		name := strings.TrimPrefix(header.Name, "./")
		switch {
		case header.Typeflag != tar.TypeReg:
			continue
		case name == fileBackend:
			return nil, fmt.Errorf("its data lies in a backend of its own (%s), which is not read: %w", fileBackend, rafs.ErrUnsupported)
		case name != fileBootstrap && name != fileBootstrapLegacy && !strings.HasSuffix(name, suffixMeta):
			continue
		case header.Size > left:
			return nil, errUnpacked()
		}
		left -= header.Size
		var content bytes.Buffer
		if _, err := io.Copy(&content, files); err != nil {
			return nil, unpackError(limited, err)
		}
		if id, ok := strings.CutSuffix(strings.TrimPrefix(name, folderFiles), suffixMeta); ok {
			layer.metas[id] = content.Bytes()
			continue
		}
		if layer.bootstrap != nil {
			return nil, fmt.Errorf("it holds two bootstraps: %w", ErrInvalid)
		}
		layer.bootstrap = content.Bytes()
	}
	if layer.bootstrap == nil {
		return nil, fmt.Errorf("it holds no %s: %w", fileBootstrap, ErrInvalid)
	}
	return layer, nil
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

func (l *bootstrapLayer) open() (*rafs.Tree, error) {
	return rafs.Open(bytes.NewReader(l.bootstrap), int64(len(l.bootstrap)))
}
