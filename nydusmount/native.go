package nydusmount

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/blob"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

const (
	// parallelTails is how many layers' tails are read at once: as many as chunks.
	parallelTails = 16
	// keptUnits is how many decompressed bytes stay in memory where files share
	// what they are stored in: what one needs of a unit, others need soon.
	keptUnits = 24 << 20
)

// Native opens an image in this process. It reads the tail of each data blob,
// one request a layer, and checks that every chunk of the merged tree lies
// where the blob's own table of chunks says, so that a container reads what
// the caller reads. Reads of the mount's files end with ctx.
func Native(ctx context.Context, image *nydusimage.Image, options ...NativeOption) (*Mount, error) {
	bootstrap, err := image.Bootstrap(ctx)
	if err != nil {
		return nil, err
	}
	return native(ctx, image, bootstrap, allLayers(image), options)
}

// A NativeOption changes how an image is opened in this process.
type NativeOption func(*nativeOptions)

type nativeOptions struct {
	allowUnverified bool
	whole           bool
	ahead           func(*rafs.Tree) []rafs.Chunk
}

// Ahead loads chunks of the merged tree while the tails of blobs are read, if they
// are those of a blob that was not seen before: [View.Load] finds them in memory.
func Ahead(chunks func(*rafs.Tree) []rafs.Chunk) NativeOption {
	return func(o *nativeOptions) { o.ahead = chunks }
}

// AllowUnverified lets an image be read, with true, for whose chunks' digests the
// manifest does not vouch: [Mount.Verified] is [Unvouched] then. Without it such an
// image is refused ([ErrUnvouched]).
func AllowUnverified(allow bool) NativeOption {
	return func(o *nativeOptions) { o.allowUnverified = allow }
}

// native is Native for the wanted layers, by index: those of which the data can
// be read.
func native(ctx context.Context, image *nydusimage.Image, bootstrap *nydusimage.Bootstrap, wanted []int, options []NativeOption) (_ *Mount, err error) {
	var o nativeOptions
	for _, set := range options {
		set(&o)
	}
	if why := elsewhere(image, bootstrap); why != "" {
		return nil, fmt.Errorf("%w (%s), which is not read natively: %w", ErrBackend, why, rafs.ErrUnsupported)
	}
	entries, err := blobEntries(image, bootstrap.Tree, wanted)
	if err != nil {
		return nil, err
	}
	kept := image.Metadata
	if o.whole {
		kept = nil // what was kept may be what somebody altered
	}
	reader := blob.NewReader(ownData(image, wanted))
	if slices.ContainsFunc(bootstrap.Tree.Blobs(), blob.NeedsMeta) {
		reader.Keep(keptUnits)
	}
	var loading sync.WaitGroup
	if o.ahead != nil {
		loading.Go(func() { loadAhead(ctx, image, reader, bootstrap.Tree, o.ahead) })
	}
	tails, err := readTails(ctx, image, entries, wanted, bootstrap.Tree.LacksChunkTable(), kept)
	loading.Wait()
	if err != nil {
		return nil, err
	}
	starts := make([]int64, len(tails))
	for i, t := range tails {
		if starts[i] = -1; t != nil {
			starts[i] = t.Start
		}
	}
	defer func() {
		if err != nil {
			forgetTails(image, starts)
		}
	}()
	sources, err := dataSources(image, tails)
	if err != nil {
		return nil, err
	}
	var wholeBlobs, wholeBytes int64
	if o.whole {
		if wholeBlobs, wholeBytes, err = verifyWhole(ctx, image, tails, sources); err != nil {
			return nil, err
		}
	}
	unvouched, err := UnvouchedBlobs(image, bootstrap.Tree, tails)
	if err != nil {
		return nil, err
	}
	if unvouched > 0 && !o.allowUnverified {
		return nil, fmt.Errorf("%s: %w", unvouchedReason(unvouched, len(entries)), ErrUnvouched)
	}
	for id, source := range sources {
		reader.AddSource(id, source)
	}
	m := &Mount{
		Image:      image,
		Layers:     make([]*View, len(image.Layers)),
		Warnings:   keyWarnings(image, bootstrap.Tree, tails),
		Verified:   Verified,
		WholeBlobs: wholeBlobs,
		WholeBytes: wholeBytes,
		Referred:   referredSize(image, sources),
		Ordered:    InOrder(image, bootstrap),
		stores:     Stores(image, bootstrap.Tree, tails),
		tails:      starts,
		reader:     reader,
	}
	if len(image.Layers) == 0 {
		m.NoLayers = "the manifest lists no data blobs"
	}
	if o.whole {
		m.Verified = VerifiedWhole
	}
	if unvouched > 0 {
		m.Verified = Unvouched
		m.Warnings = append(m.Warnings, unvouchedReason(unvouched, len(entries))+": whoever serves the image can have altered what was read")
	}
	m.Merged = m.view(ctx, WithChunks(image, bootstrap.Tree, tails, nil), "")
	m.Merged.Vouched = true
	for _, i := range wanted {
		if tail := tails[i]; tail.Tree != nil {
			m.Layers[i] = m.view(ctx, WithChunks(image, tail.Tree, tails, tail), image.Layers[i].BlobID())
			m.Layers[i].Vouched = tail.TreeVouched
		}
	}
	return m, m.checkChunkTables(ctx, tails, bootstrap.Metas)
}

// blobEntries returns the entries of the merged tree's blob table for the wanted
// layers, by blob ID.
func blobEntries(image *nydusimage.Image, tree *rafs.Tree, wanted []int) (map[string]*rafs.Blob, error) {
	layers := make(map[string]bool, len(wanted))
	for _, i := range wanted {
		layers[image.Layers[i].BlobID()] = true
	}
	all := len(wanted) == len(image.Layers)
	blobs := tree.Blobs()
	entries := make(map[string]*rafs.Blob, len(blobs))
	for i, b := range blobs {
		if !all && !layers[b.ID] {
			continue
		}
		if err := blob.Supported(b); err != nil {
			return nil, err
		}
		if !layers[b.ID] {
			return nil, fmt.Errorf("the bootstrap refers to blob %s, which is no layer of the manifest: %w", b.ID, nydusimage.ErrInvalid)
		}
		entries[b.ID] = &blobs[i]
	}
	return entries, nil
}

// readTails reads the tails of the wanted layers, with the digests of their chunks if
// asked; those of the others are nil. kept is the cache of tails.
func readTails(ctx context.Context, image *nydusimage.Image, entries map[string]*rafs.Blob, wanted []int, digests bool, kept *nydusimage.MetadataCache) ([]*Tail, error) {
	tails := make([]*Tail, len(image.Layers))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(parallelTails)
	budget := image.MetadataBudget()
	for _, i := range wanted {
		layer := &image.Layers[i]
		group.Go(func() (err error) {
			if tails[i], err = readTail(groupCtx, image, layer, entries[layer.BlobID()], digests, budget, kept); err != nil {
				return fmt.Errorf("layer %d of %d, blob %s: %w", i+1, len(image.Layers), layer.Digest, err)
			}
			image.Traffic.NoteMetadata(tails[i].fetched)
			return nil
		})
	}
	return tails, group.Wait()
}

// ownData returns the blobs that hold their layers' data, of the wanted layers, by
// blob ID.
func ownData(image *nydusimage.Image, wanted []int) map[string]blob.Source {
	sources := make(map[string]blob.Source, len(image.Layers))
	for _, i := range wanted {
		if layer := &image.Layers[i]; !layer.Refers() {
			sources[layer.BlobID()] = layer.Source
		}
	}
	return sources
}

// dataSources returns where the data of the layers lies, by blob ID.
func dataSources(image *nydusimage.Image, tails []*Tail) (map[string]blob.Source, error) {
	sources := make(map[string]blob.Source, len(image.Layers))
	for i, tail := range tails {
		if tail == nil {
			continue
		}
		layer, table := &image.Layers[i], tail.Table
		err := contradiction(table, layer)
		switch {
		case err != nil:
		case !layer.Refers():
			sources[layer.BlobID()] = layer.Source
		case table != nil:
			sources[layer.BlobID()], err = referredData(image, layer, table)
		}
		if err != nil {
			return nil, fmt.Errorf("layer %d of %d, blob %s: %w", i+1, len(image.Layers), layer.Digest, err)
		}
	}
	return sources, nil
}

// referredData returns the OCI layer that holds a layer's data.
func referredData(image *nydusimage.Image, layer *nydusimage.Layer, table *rafs.Blob) (blob.Source, error) {
	if table.CompressedSize > math.MaxInt64 {
		return nil, fmt.Errorf("its data %s has %d bytes: %w", layer.Ref, table.CompressedSize, rafs.ErrCorrupt)
	}
	return image.Data(layer, int64(table.CompressedSize))
}

// referredSize is how many bytes the OCI layers have that hold the layers' data.
func referredSize(image *nydusimage.Image, sources map[string]blob.Source) (size int64) {
	for i := range image.Layers {
		layer := &image.Layers[i]
		if source := sources[layer.BlobID()]; layer.Refers() && source != nil {
			size += source.Size()
		}
	}
	return size
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

func (s chunkSource) expect(chunks []rafs.Chunk) func() { return s.chunks.Expect(chunks) }

func (s chunkSource) blobID(index int) string { return s.chunks.BlobID(index) }

// checkChunkTables compares all chunks of the merged tree's files with the
// chunk tables in the blobs and, where the bootstrap layer carries them, with
// those there: nydusd reads by either of these. Where the tables say what the
// bootstrap does not, the reader gets one of them, and both must be the same. So
// the blob's own is read also where the bootstrap layer carries the table (zran, 8 MB
// for a large image): nydusd takes that of the bootstrap layer only if something has
// put it into its cache folder, and else reads the blob's. To compare with one alone
// would let a container read other data than a scan.
func (m *Mount) checkChunkTables(ctx context.Context, tails []*Tail, inLayer map[string][]byte) error {
	tables := make(map[string][]*blob.Meta)
	for i, tail := range tails {
		if tail == nil {
			continue
		}
		layer := &m.Image.Layers[i]
		var metas []*blob.Meta
		for _, id := range layer.MetaIDs() {
			both, err := tail.metas(inLayer[id])
			if err != nil {
				return fmt.Errorf("layer %d of %d, blob %s: %w", i+1, len(tails), layer.Digest, err)
			}
			metas = append(metas, both...)
		}
		tables[layer.BlobID()] = append(tables[layer.BlobID()], metas...)
		if len(metas) > 0 && blob.NeedsMeta(*tail.Table) {
			m.reader.SetMeta(layer.BlobID(), metas[0])
		}
	}
	blobs := m.Merged.Blobs()
	return m.Merged.WalkContext(ctx, func(path string, inode rafs.Inode) error {
		if !inode.IsRegular() {
			return nil
		}
		chunks, err := inode.Chunks()
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		for i := range chunks {
			c := &chunks[i]
			for _, meta := range tables[blobs[c.Blob].ID] {
				if err := meta.Check(c); err != nil {
					return fmt.Errorf("%s: blob %s: %w", path, blobs[c.Blob].ID, err)
				}
			}
		}
		return nil
	})
}

// metas returns the tables of a blob's chunks that a runtime may read by: that of
// the blob and that of the bootstrap layer, which may be nil.
func (t *Tail) metas(inLayer []byte) ([]*blob.Meta, error) {
	var metas []*blob.Meta
	if t.Meta != nil {
		metas = append(metas, t.Meta)
	}
	if inLayer != nil && t.Table != nil && t.Table.Cipher != rafs.CipherNone && !blob.MetaIsPlain(inLayer) {
		return metas, nil
	}
	if inLayer != nil && t.Table != nil && blob.HasMeta(*t.Table) {
		meta, err := blob.ParseMeta(inLayer, *t.Table)
		if err != nil {
			return nil, fmt.Errorf("in the bootstrap layer: %w", err)
		}
		if t.Meta != nil && blob.NeedsMeta(*t.Table) && !t.Meta.Same(meta) {
			return nil, fmt.Errorf("its blob.meta is another than that of the bootstrap layer: a container would read other data than a scan: %w", rafs.ErrCorrupt)
		}
		metas = append(metas, meta)
	}
	return metas, nil
}
