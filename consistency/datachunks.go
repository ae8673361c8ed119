package consistency

import (
	"cmp"
	"context"
	"slices"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/blob"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// keptDecoded is how many decompressed bytes stay in memory: chunks that share
// what they are stored in come one behind the other.
const keptDecoded = 16 << 20

// wantedChunks are the chunks of one blob that bootstraps list, in the order in
// which they are stored.
type wantedChunks struct {
	id     string
	meta   *blob.Meta // nil without one
	trees  []wantedTree
	chunks []wantedChunk
	// tail is where the chunks' digests come from, if not from the bootstrap and if
	// the manifest does not vouch for it; else nil.
	tail *nydusmount.Tail
}

// A wantedTree is a tree that lists chunks of the blob; self is the ID of the blob
// that carries it, "" for the merged one.
type wantedTree struct {
	tree *rafs.Tree
	self string
}

type wantedChunk struct {
	chunk rafs.Chunk
	tree  int    // in trees
	path  string // of a file that has it
}

// wanted collects the chunks of a layer's data: those of the merged tree and of
// the layer's own. A chunk of which both say the same is there once.
func (c *dataCheck) wanted(ctx context.Context, i int, table *rafs.Blob) *wantedChunks {
	if c.bootstrap == nil || table == nil {
		return nil
	}
	layer := &c.images.Target.Layers[i]
	w := &wantedChunks{id: layer.BlobID(), trees: []wantedTree{{c.merged, ""}}}
	if t := &c.tails[i]; t.err == nil {
		w.meta = t.tail.Meta
		if t.tail.Tree != nil {
			w.trees = append(w.trees, wantedTree{c.images.layerTree(c.tails, i), layer.BlobID()})
		}
		if c.merged.LacksChunkTable() && !t.tail.Vouched {
			w.tail = t.tail
		}
	}
	seen := make(map[rafs.Chunk]bool)
	for k := range w.trees {
		w.collect(ctx, k, seen)
	}
	slices.SortFunc(w.chunks, func(a, b wantedChunk) int {
		return cmp.Or(cmp.Compare(w.place(&a.chunk), w.place(&b.chunk)), cmp.Compare(a.chunk.Index, b.chunk.Index))
	})
	return w
}

// collect adds the chunks that a tree lists.
func (w *wantedChunks) collect(ctx context.Context, number int, seen map[rafs.Chunk]bool) {
	t := w.trees[number]
	blobs := t.tree.Blobs()
	mine := make([]bool, len(blobs))
	for n := range blobs {
		mine[n] = blobs[n].ID == w.id || t.self != "" && blob.IsSelf(blobs[n])
	}
	// What cannot be walked or listed is reported by the bootstrap rule; the blob's
	// own digest covers its chunks.
	_ = t.tree.WalkContext(ctx, func(path string, inode rafs.Inode) error {
		chunks, err := inode.Chunks()
		if err != nil {
			return nil
		}
		for _, chunk := range chunks {
			if !mine[chunk.Blob] {
				continue
			}
			same := chunk // but for what is the file's, and the tree's number of the blob
			same.Blob, same.FileOffset = 0, 0
			if !seen[same] {
				seen[same] = true
				w.chunks = append(w.chunks, wantedChunk{chunk, number, path})
			}
		}
		return nil
	})
}

// place returns where a chunk is stored, as far as that is known.
func (w *wantedChunks) place(c *rafs.Chunk) uint64 {
	if w.meta != nil && int64(c.Index) < int64(w.meta.Len()) {
		return w.meta.Chunk(int(c.Index)).CompressedOffset
	}
	return c.CompressedOffset
}

// readers returns the view of each tree on the blob.
func (w *wantedChunks) readers(ctx context.Context, source blob.Source) []*blob.TreeReader {
	reader := blob.NewReader(map[string]blob.Source{w.id: source})
	reader.Keep(keptDecoded)
	if w.meta != nil {
		reader.SetMeta(w.id, w.meta)
	}
	readers := make([]*blob.TreeReader, len(w.trees))
	for i, t := range w.trees {
		readers[i] = reader.Tree(ctx, t.tree.Blobs(), t.self)
	}
	return readers
}
