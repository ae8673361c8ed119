package nydusmount

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/blob"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

const (
	// parallelTails is how many layers' tails are read at once.
	parallelTails = 8
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
			tail, err := ReadTail(groupCtx, layer, blobs[layer.BlobID()], image.Metadata)
			if err != nil {
				return fmt.Errorf("layer %d of %d, blob %s: %w", i+1, len(image.Layers), layer.Digest, err)
			}
			metas[i] = tail.Meta
			if tail.Tree != nil {
				m.Layers[i] = m.view(ctx, tail.Tree, layer.BlobID())
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
