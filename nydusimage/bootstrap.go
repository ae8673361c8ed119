package nydusimage

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/zstd"

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
	// File is the file that Tree was opened from, and keeps: it must not change.
	File []byte
	// Metas are the blob.meta files, by blob ID.
	Metas map[string][]byte
	// Backend is the file that names where the data lies, if not in the layers of
	// the manifest (backend.json, JSON as nydusify writes it); nil without one. It
	// is a claim of whoever made the image: nothing may be fetched from there.
	Backend []byte
	// DiffID is the SHA-256 of the uncompressed archive, which the image's config should
	// list as its last diff ID.
	DiffID v1.Hash
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
		if data, err = i.bootstrapLayer(ctx); err != nil {
			return nil, err
		}
		i.Traffic.NoteMetadata(d.Size)
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
	b, err := unpackBootstrapLayer(archive, i.Limits().Metadata)
	if err != nil {
		return nil, err
	}
	if b.Tree, err = rafs.OpenBytes(b.File); err == nil {
		b.Tree.Allow(i.Limits().Names, i.Limits().Metadata)
	}
	return b, err
}

// readBootstrapLayer fetches the layer. A compressed one is not larger than what it
// unpacks to.
func (i *Image) readBootstrapLayer(ctx context.Context, d v1.Descriptor) ([]byte, error) {
	if d.Size > i.Limits().Metadata {
		return nil, &rafs.LimitError{Bound: rafs.BoundMetadata, What: fmt.Sprintf("its %d bytes", d.Size), Allowed: i.Limits().Metadata}
	}
	return readBlob(ctx, i.store, d, d.Size)
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

// unpackBootstrapLayer reads the archive into memory, at most allowed bytes of it,
// and opens no tree.
//
// The runtime unpacks the whole archive into a folder, as it does with any layer.
// So whatever could there put another file in the place of one that was read here
// is refused: a name that is spelled in another way or comes twice, a link, a
// whiteout.
func unpackBootstrapLayer(archive io.Reader, allowed int64) (*Bootstrap, error) {
	limited := &io.LimitedReader{R: archive, N: allowed}
	over := errUnpacked(allowed)
	unpackError := func(err error) error {
		if limited.N <= 0 {
			return over
		}
		return fmt.Errorf("unpack it: %w: %w", rafs.ErrCorrupt, err)
	}
	left := allowed // apart from limited: a sparse file's holes are not in the archive
	digest := sha256.New()
	files := tar.NewReader(io.TeeReader(limited, digest))
	b := &Bootstrap{Metas: make(map[string][]byte)}
	seen := make(map[string]bool)
	for {
		header, err := files.Next()
		if errors.Is(err, io.EOF) && limited.N > 0 { // else the archive goes on
			break
		}
		if err != nil {
			return nil, unpackError(err)
		}
		name := strings.TrimPrefix(path.Clean("/"+header.Name), "/")
		if err := checkArchived(header, name); err != nil {
			return nil, err
		}
		if header.Typeflag == tar.TypeDir {
			continue
		}
		id, isMeta := strings.CutSuffix(strings.TrimPrefix(name, folderFiles), suffixMeta)
		isBootstrap := name == fileBootstrap || name == fileBootstrapLegacy
		switch {
		case isBootstrap && b.File != nil:
			return nil, fmt.Errorf("it holds two bootstraps: %w", ErrInvalid)
		case seen[name]:
			return nil, fmt.Errorf("it holds %q twice: %w", name, ErrInvalid)
		case len(seen) == maxArchived:
			return nil, fmt.Errorf("it holds more than %d files: %w", maxArchived, ErrInvalid)
		}
		seen[name] = true
		if !isMeta && !isBootstrap && name != fileBackend {
			continue
		}
		if header.Size > left {
			return nil, over
		}
		left -= header.Size
		content, err := readEntry(files, header.Size)
		if err != nil {
			return nil, unpackError(err)
		}
		switch {
		case isMeta:
			b.Metas[id] = content
		case isBootstrap:
			b.File = content
		default:
			b.Backend = content
		}
	}
	if b.File == nil {
		return nil, fmt.Errorf("it holds no %s: %w", fileBootstrap, ErrInvalid)
	}
	// What follows the archive's end is hashed, too.
	if _, err := io.Copy(digest, limited); err != nil || limited.N <= 0 {
		return nil, unpackError(err)
	}
	b.DiffID = v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(digest.Sum(nil))}
	return b, nil
}

// readEntry reads an entry of an archive, whole, into memory for which there were
// bytes: an archive of a kilobyte can claim any size. The result is not nil.
func readEntry(r io.Reader, size int64) ([]byte, error) {
	const first = 1 << 20
	content := make([]byte, min(size, first))
	for read := 0; ; {
		n, err := io.ReadFull(r, content[read:])
		if err != nil {
			return nil, err
		}
		if read += n; int64(read) == size {
			return content, nil
		}
		larger := make([]byte, min(size, 4*int64(read)))
		copy(larger, content)
		content = larger
	}
}

func errUnpacked(allowed int64) error {
	return &rafs.LimitError{Bound: rafs.BoundMetadata, What: "what it unpacks to", Allowed: allowed}
}

// maxArchived is how many files a bootstrap layer may hold: a bootstrap and a table
// for each of 254 blobs, and as many of other kinds again.
const maxArchived = 1024

// checkArchived refuses what a bootstrap layer of no converter holds; name is the
// entry's, cleaned.
func checkArchived(header *tar.Header, name string) error {
	switch {
	case header.Typeflag != tar.TypeReg && header.Typeflag != tar.TypeDir:
		return fmt.Errorf("%q in it is neither a file nor a folder, so a container may get another bootstrap: %w", header.Name, ErrInvalid)
	case slices.Contains(strings.Split(header.Name, "/"), ".."):
		return fmt.Errorf("the name %q in it leads upwards: %w", header.Name, ErrInvalid)
	case strings.HasPrefix(name, whiteoutPrefix), strings.Contains(name, "/"+whiteoutPrefix):
		return fmt.Errorf("%q in it is a whiteout, so a container may get another bootstrap: %w", header.Name, ErrInvalid)
	}
	return nil
}

// whiteoutPrefix begins the names of what deletes other files where a layer is
// unpacked.
const whiteoutPrefix = ".wh."
