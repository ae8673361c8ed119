package nydusmount

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/blob"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

const (
	// smallBlob is the size up to which a blob is read whole to get at its
	// tail: a layer of metadata only.
	smallBlob = 128 << 10
	// shortTail is what is read first of a blob of which nothing says where its
	// data ends: a table of contents and its tar header are shorter.
	shortTail = 4 << 10
	// kindTail is where a metadata cache keeps tails.
	kindTail = "tails"
	// longTail is the longest tail that is read in one request.
	longTail = 256 << 20
)

// A Tail is what follows the chunks in a data blob.
type Tail struct {
	// Tree is the layer's own tree, nil if the blob carries none.
	Tree *rafs.Tree
	// Meta is blob.meta, nil where the image has none.
	Meta *blob.Meta
	// TOC is the blob's table of contents, nil if it has none.
	TOC *blob.TOC
}

// ReadTail reads a blob's tail. b is the blob's entry in the merged bootstrap,
// nil if no file of the image uses the blob. A tail that is sound is kept.
func ReadTail(ctx context.Context, layer *nydusimage.Layer, b *rafs.Blob, kept *nydusimage.MetadataCache) (*Tail, error) {
	size := layer.Source.Size()
	start := dataEnd(b, size)
	if size-start > longTail {
		return parseTail(ctx, layer.Source, b)
	}
	name := fmt.Sprintf("%s %d %d", layer.Digest, start, size)
	if tail := kept.Get(kindTail, name); int64(len(tail)) == size-start {
		return parseTail(ctx, blob.Ahead(layer.Source, start, tail), b)
	}
	tail := make([]byte, size-start)
	if err := layer.Source.ReadRange(ctx, tail, start); err != nil {
		return nil, fmt.Errorf("read the blob's tail: %w", err)
	}
	parsed, err := parseTail(ctx, blob.Ahead(layer.Source, start, tail), b)
	if err == nil {
		_ = kept.Put(kindTail, name, tail) // without it the next scan is slower, no more
	}
	return parsed, err
}

func parseTail(ctx context.Context, source blob.Source, b *rafs.Blob) (*Tail, error) {
	var tail Tail
	var err error
	if b != nil && blob.HasMeta(*b) {
		if tail.Meta, err = blob.ReadMeta(ctx, source, *b); err != nil {
			return nil, err
		}
	}
	if tail.TOC, err = blob.ReadTOC(ctx, source); errors.Is(err, blob.ErrNoTOC) {
		return &tail, nil
	} else if err != nil {
		return nil, err
	}
	if b != nil && b.TOCDigest != [32]byte{} && b.TOCDigest != tail.TOC.Digest {
		return nil, fmt.Errorf("the table of contents hashes to %x, the bootstrap says %x: %w", tail.TOC.Digest, b.TOCDigest, blob.ErrDigest)
	}
	bootstrap, err := tail.TOC.Bootstrap(ctx, source)
	if errors.Is(err, blob.ErrNoTOC) {
		return &tail, nil
	}
	if err != nil {
		return nil, err
	}
	if tail.Tree, err = rafs.Open(bytes.NewReader(bootstrap), int64(len(bootstrap))); err != nil {
		return nil, fmt.Errorf("the layer's bootstrap: %w", err)
	}
	return &tail, nil
}

// dataEnd gives the offset behind a blob's chunks: in v6 blob.meta lies there,
// in v5 a tar header.
func dataEnd(b *rafs.Blob, size int64) int64 {
	var end uint64
	switch {
	case b != nil && b.Meta.UncompressedSize != 0:
		end = b.Meta.Offset
	case b != nil:
		end = b.CompressedSize
	}
	if end > 0 && end < uint64(size) {
		return int64(end)
	}
	if size <= smallBlob {
		return 0
	}
	return size - shortTail
}
