package nydusmount

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/blob"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

const (
	// parallelTails is how many layers' tails are read at once.
	parallelTails = 8
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

// Native opens an image in this process. It reads the tail of each data blob,
// one request a layer, and checks that every chunk of the merged tree lies
// where the blob's own table of chunks says, so that a container reads what
// the caller reads. Reads of the mount's files end with ctx.
func Native(ctx context.Context, image *nydusimage.Image) (*Mount, error) {
	sources := make(map[string]blob.Source, len(image.Layers))
	for i := range image.Layers {
		sources[image.Layers[i].BlobID()] = image.Layers[i].Source
	}
	m := &Mount{Image: image, Layers: make([]*View, len(image.Layers)), Verified: Verified, reader: blob.NewReader(sources)}
	bootstrap, err := image.Bootstrap(ctx)
	if err != nil {
		return nil, err
	}
	m.Merged = m.view(ctx, bootstrap.Tree, "")

	blobs := make(map[string]*rafs.Blob)
	for i, b := range bootstrap.Tree.Blobs() {
		if err := blob.Supported(b); err != nil {
			return nil, err
		}
		if sources[b.ID] == nil {
			return nil, fmt.Errorf("the bootstrap refers to blob %s, which is no layer of the manifest: %w", b.ID, nydusimage.ErrInvalid)
		}
		blobs[b.ID] = &bootstrap.Tree.Blobs()[i]
	}

	metas := make([]*blob.Meta, len(image.Layers))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(parallelTails)
	for i := range image.Layers {
		layer := &image.Layers[i]
		group.Go(func() error {
			tree, meta, err := readTail(groupCtx, layer, blobs[layer.BlobID()], image.Metadata)
			if err != nil {
				return fmt.Errorf("layer %d of %d, blob %s: %w", i+1, len(image.Layers), layer.Digest, err)
			}
			metas[i] = meta
			if tree != nil {
				m.Layers[i] = m.view(ctx, tree, layer.BlobID())
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return m, m.checkChunkTables(metas, bootstrap.Metas)
}

// view opens a tree's data; self is the ID of the blob that carries the tree.
func (m *Mount) view(ctx context.Context, tree *rafs.Tree, self string) *View {
	chunks := m.reader.Tree(ctx, tree.Blobs(), self)
	return &View{Tree: tree, Data: chunks, source: chunkSource{chunks}}
}

// A chunkSource makes files of the chunks that this process reads.
type chunkSource struct{ chunks *blob.TreeReader }

func (s chunkSource) open(name string, inode rafs.Inode) File { return inode.Open(name, s.chunks) }

func (s chunkSource) load(ctx context.Context, chunks []rafs.Chunk) (func(), error) {
	return s.chunks.Load(ctx, chunks)
}

func (s chunkSource) blobID(index int) string { return s.chunks.BlobID(index) }

// readTail reads what follows a blob's data: blob.meta, if b has one, and the
// layer's own tree, nil if the blob carries none. b is the blob's entry in the
// merged bootstrap, nil if no file of the image uses the blob. A tail that is
// sound is kept.
func readTail(ctx context.Context, layer *nydusimage.Layer, b *rafs.Blob, kept *nydusimage.MetadataCache) (*rafs.Tree, *blob.Meta, error) {
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
		return nil, nil, fmt.Errorf("read the blob's tail: %w", err)
	}
	tree, meta, err := parseTail(ctx, blob.Ahead(layer.Source, start, tail), b)
	if err == nil {
		_ = kept.Put(kindTail, name, tail) // without it the next scan is slower, no more
	}
	return tree, meta, err
}

func parseTail(ctx context.Context, source blob.Source, b *rafs.Blob) (*rafs.Tree, *blob.Meta, error) {
	var meta *blob.Meta
	if b != nil && blob.HasMeta(*b) {
		var err error
		if meta, err = blob.ReadMeta(ctx, source, *b); err != nil {
			return nil, nil, err
		}
	}
	toc, err := blob.ReadTOC(ctx, source)
	if errors.Is(err, blob.ErrNoTOC) {
		return nil, meta, nil
	}
	if err != nil {
		return nil, nil, err
	}
	if b != nil && b.TOCDigest != [32]byte{} && b.TOCDigest != toc.Digest {
		return nil, nil, fmt.Errorf("the table of contents hashes to %x, the bootstrap says %x: %w", toc.Digest, b.TOCDigest, blob.ErrDigest)
	}
	bootstrap, err := toc.Bootstrap(ctx, source)
	if errors.Is(err, blob.ErrNoTOC) {
		return nil, meta, nil
	}
	if err != nil {
		return nil, nil, err
	}
	tree, err := rafs.Open(bytes.NewReader(bootstrap), int64(len(bootstrap)))
	if err != nil {
		return nil, nil, fmt.Errorf("the layer's bootstrap: %w", err)
	}
	return tree, meta, nil
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

// checkChunkTables compares all chunks of the merged tree's files with the
// chunk tables in the blobs and, where the bootstrap layer carries them, with
// those there: nydusd reads by either of these.
func (m *Mount) checkChunkTables(inBlobs []*blob.Meta, inLayer map[string][]byte) error {
	byID := make(map[string][]*blob.Meta)
	for i, meta := range inBlobs {
		if meta != nil {
			id := m.Image.Layers[i].BlobID()
			byID[id] = append(byID[id], meta)
		}
	}
	blobs := m.Merged.Blobs()
	tables := make([][]*blob.Meta, len(blobs))
	for i, b := range blobs {
		tables[i] = byID[b.ID]
		file, ok := inLayer[b.ID]
		if !ok || !blob.HasMeta(b) {
			continue
		}
		meta, err := blob.ParseMeta(file, b)
		if err != nil {
			return fmt.Errorf("blob %s in the bootstrap layer: %w", b.ID, err)
		}
		tables[i] = append(tables[i], meta)
	}
	return m.Merged.Walk(func(path string, inode rafs.Inode) error {
		if !inode.IsRegular() {
			return nil
		}
		chunks, err := inode.Chunks()
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		for i := range chunks {
			c := &chunks[i]
			for _, meta := range tables[c.Blob] {
				if err := meta.Check(c); err != nil {
					return fmt.Errorf("%s: blob %s: %w", path, blobs[c.Blob].ID, err)
				}
			}
		}
		return nil
	})
}
