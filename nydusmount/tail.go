package nydusmount

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
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
	// Table is the blob table's entry of the blob that holds the layer's data: that
	// of the merged bootstrap, else that of the layer's own; nil without either.
	Table *rafs.Blob
	// TOC is the blob's table of contents, nil if it has none.
	TOC *blob.TOC
	// Digests are those of the blob's chunks, 32 bytes each in the order of Meta. nil
	// where the blob has none, or where they were not asked for and the layer's own
	// bootstrap does not need them.
	Digests []byte
	// Vouched says whether the manifest vouches for Meta and Digests: it names the
	// digest of all that was read, or the merged bootstrap that of a table of contents
	// which has theirs.
	Vouched bool
	// TreeVouched says the same of Tree.
	TreeVouched bool
	// Start is where in the blob the tail begins, and Sum the SHA-256 of what was read
	// from there on; zero for a tail that was not read at once.
	Start int64
	Sum   [sha256.Size]byte

	// fetched is how many bytes of it were read of the blob now, and had to be.
	fetched int64
}

// size is the bytes of the blob that the tail is made of, as stored.
func (t *Tail) size() int64 {
	var size int64
	if t.TOC != nil {
		size += t.TOC.Size
		if boot := t.TOC.Part(blob.PartBootstrap); boot != nil {
			size += boot.StoredSize
		}
	}
	if t.Meta != nil {
		size += blob.MetaSize(*t.Table)
	}
	return size + int64(len(t.Digests))
}

// ReadTail reads a blob's tail. b is the blob's entry in the merged bootstrap,
// nil if no file of the image uses the blob; digests asks for [Tail.Digests]. What the
// tail takes in memory is taken from the budget. A tail that is sound is kept, for
// images of the same origin: no digest of the manifest vouches for it alone.
func ReadTail(ctx context.Context, image *nydusimage.Image, layer *nydusimage.Layer, b *rafs.Blob, digests bool, budget *rafs.Budget) (*Tail, error) {
	return readTail(ctx, image, layer, b, digests, budget, image.Metadata)
}

// readTail is ReadTail with the cache of tails, nil for one that is read anyway.
func readTail(ctx context.Context, image *nydusimage.Image, layer *nydusimage.Layer, b *rafs.Blob, digests bool, budget *rafs.Budget, kept *nydusimage.MetadataCache) (*Tail, error) {
	if err := contradiction(b, layer); err != nil {
		return nil, err
	}
	r := tailReader{layer: layer, limits: image.Limits(), digests: digests, budget: budget}
	size := layer.Source.Size()
	start := dataEnd(b, size)
	if size-start > longTail {
		tail, err := r.parse(ctx, layer.Source, Tail{Table: b, Start: start})
		if err == nil {
			tail.fetched = tail.size()
		}
		return tail, err
	}
	if err := budget.Take("the blob's tail", uint64(size-start)); err != nil {
		return nil, err
	}
	name := tailName(image, layer, start)
	if tail := kept.Get(kindTail, name); int64(len(tail)) == size-start {
		parsed, err := r.read(ctx, start, tail, b)
		if err == nil || !damaged(ctx, parsed, err, size-start) {
			return parsed, err
		}
		// What is kept came from this registry, with nothing to vouch for it: an image
		// of which it looked sound may have kept it spoiled.
		kept.Remove(kindTail, name)
	}
	tail := make([]byte, size-start)
	fetch := func() (*Tail, error) {
		if err := layer.Source.ReadRange(ctx, tail, start); err != nil {
			return nil, fmt.Errorf("read the blob's tail: %w", err)
		}
		return r.read(ctx, start, tail, b)
	}
	parsed, err := fetch()
	if damaged(ctx, parsed, err, size-start) {
		parsed, err = fetch() // spoiled on the way, it comes another time as it is
	}
	if image.InRegistry() && damaged(ctx, parsed, err, size-start) {
		// Whether it is so in the blob, or not what the registry should give, only
		// the blob's digest tells.
		if tail, err = provenTail(ctx, layer, start); err != nil {
			return nil, err
		}
		parsed, err = r.read(ctx, start, tail, b)
	}
	if err != nil {
		return nil, err
	}
	if ctx.Err() != nil { // it may be damaged all the same, and is not to be kept
		return nil, context.Cause(ctx)
	}
	parsed.fetched = parsed.size()
	_ = kept.Put(kindTail, name, tail) // without it the next scan is slower, no more
	return parsed, nil
}

// contradiction returns an error where what a bootstrap says of a blob, in b, and what
// the manifest says of the layer contradict each other in where the data lies and
// where its blob.meta: nydusd goes by the bootstrap. b may be nil.
func contradiction(b *rafs.Blob, layer *nydusimage.Layer) error {
	switch {
	case b == nil:
		return nil
	case (b.Features&rafs.BlobSeparate != 0) != layer.Refers():
		return fmt.Errorf("manifest and bootstrap contradict each other in whether its data lies in an OCI layer: %w", nydusimage.ErrInvalid)
	case layer.Refers() && b.MetaDigest != [32]byte{} && hex.EncodeToString(b.MetaDigest[:]) != layer.Digest.Hex:
		return fmt.Errorf("the bootstrap takes its blob.meta from blob %x: %w", b.MetaDigest, nydusimage.ErrInvalid)
	}
	return nil
}

// forgetTails takes tails from the cache that begin at starts, by layer, -1 for none:
// those of an image whose parts contradict each other may have been spoiled on the
// way, which no digest tells.
func forgetTails(image *nydusimage.Image, starts []int64) {
	for i, start := range starts {
		if start >= 0 {
			image.Metadata.Remove(kindTail, tailName(image, &image.Layers[i], start))
		}
	}
}

// damaged says whether a tail of so many bytes shows that it is not as a builder
// made it: it cannot be read, its digests do not match, or there is no table of
// contents, and nothing else that its bytes could be. Where ctx has ended, it may say
// no of any.
func damaged(ctx context.Context, t *Tail, err error, size int64) bool {
	switch {
	case err != nil:
		return errors.Is(err, rafs.ErrCorrupt) || errors.Is(err, blob.ErrDigest)
	case t.TOC == nil && t.Table != nil && t.Table.Features&rafs.BlobSeparate == 0:
		explained := int64(0)
		if blob.HasMeta(*t.Table) {
			explained = blob.MetaSize(*t.Table)
		}
		return size > explained
	case t.Tree == nil || t.Tree.Superblock().Version != rafs.V5:
		return false // the digest in the table of contents vouches for the tree of a v6 blob
	}
	wrong := false
	_ = t.Tree.Check(ctx, blob.Sum, func(p rafs.Problem) { wrong = wrong || p.Field == "digest" })
	return wrong
}

// provenTail reads a whole blob, compares it with its digest, and returns what is
// from start on.
func provenTail(ctx context.Context, layer *nydusimage.Layer, start int64) ([]byte, error) {
	var tail bytes.Buffer
	tail.Grow(int(layer.Source.Size() - start))
	if err := blob.Prove(ctx, layer.Source, layer.Digest.String(), start, &tail); err != nil {
		return nil, fmt.Errorf("read blob %s, whose tail is damaged: %w", layer.Digest, err)
	}
	return tail.Bytes(), nil
}

// read parses a tail that begins at start and is in memory. What was parsed before is
// given up.
func (r *tailReader) read(ctx context.Context, start int64, tail []byte, b *rafs.Blob) (*Tail, error) {
	r.budget.Return(r.taken)
	r.taken = 0
	sum := sha256.Sum256(tail)
	if start == 0 && hex.EncodeToString(sum[:]) != r.layer.Digest.Hex {
		return nil, fmt.Errorf("the blob hashes to %x: %w", sum, blob.ErrDigest)
	}
	return r.parse(ctx, blob.Ahead(r.layer.Source, start, tail), Tail{Table: b, Start: start, Sum: sum, Vouched: start == 0, TreeVouched: start == 0})
}

// tailName is the name under which the tail of a layer is kept that begins at start.
func tailName(image *nydusimage.Image, layer *nydusimage.Layer, start int64) string {
	return fmt.Sprintf("%s %s %d %d", image.Origin(), layer.Digest, start, layer.Source.Size())
}

// A tailReader reads the tail of one layer.
type tailReader struct {
	layer   *nydusimage.Layer
	limits  nydusimage.Limits
	digests bool // whether those of the chunks are wanted anyway
	budget  *rafs.Budget
	taken   uint64 // of the budget, for what was parsed last
}

func (r *tailReader) take(what string, n uint64) error {
	err := r.budget.Take(what, n)
	if err == nil {
		r.taken += n
	}
	return err
}

// parse fills in a tail of which Table is the entry in the merged bootstrap, and
// Vouched and TreeVouched say whether the manifest vouches for all of the source.
func (r *tailReader) parse(ctx context.Context, source blob.Source, tail Tail) (*Tail, error) {
	b := tail.Table
	var err error
	if tail.TOC, err = blob.ReadTOC(ctx, source); err != nil && !errors.Is(err, blob.ErrNoTOC) {
		return nil, err
	}
	if tail.TOC != nil {
		if b != nil && b.TOCDigest != [32]byte{} && !tail.TOC.Is(b.TOCDigest) {
			return nil, fmt.Errorf("the table of contents hashes to %x, the bootstrap says %x: %w", tail.TOC.Digest, b.TOCDigest, blob.ErrDigest)
		}
		if tail.Tree, err = r.tree(ctx, tail.TOC, source); err != nil {
			return nil, err
		}
		boot := tail.TOC.Part(blob.PartBootstrap)
		if b != nil && b.TOCDigest != [32]byte{} && boot != nil && boot.Digest != [32]byte{} {
			tail.TreeVouched = true
		}
	}
	if tail.Table == nil && tail.Tree != nil {
		tail.Table = ownEntry(tail.Tree, r.layer.BlobID())
	}
	// Where the merged bootstrap does not know the blob, nothing of it is compared
	// with its table, which is read only if it is needed.
	if t := tail.Table; t != nil && blob.HasMeta(*t) && (b != nil || blob.NeedsMeta(*t)) {
		if err := r.take("its blob.meta", blob.MetaMemory(*t)); err != nil {
			return nil, err
		}
		if tail.Meta, err = blob.ReadMeta(ctx, source, *t); err != nil {
			return nil, err
		}
	}
	if r.digests || tail.Tree != nil && tail.Tree.LacksChunkTable() {
		if err := r.readDigests(ctx, source, &tail); err != nil {
			return nil, err
		}
	}
	if tail.Digests != nil && tail.Meta != nil && b != nil && b.TOCDigest != [32]byte{} {
		covered, err := tail.TOC.Covers(tail.Meta)
		if err != nil {
			return nil, err
		}
		tail.Vouched = tail.Vouched || covered
	}
	return &tail, nil
}

// readDigests reads what the blob has for the digests of its chunks.
func (r *tailReader) readDigests(ctx context.Context, source blob.Source, t *Tail) (err error) {
	if t.TOC == nil || t.Table == nil {
		return nil
	}
	if err := r.take("the chunks' digests", t.TOC.DigestsMemory()); err != nil {
		return err
	}
	t.Digests, err = t.TOC.Digests(ctx, source, t.Table.ChunkCount)
	if errors.Is(err, blob.ErrNoTOC) {
		return nil
	}
	return err
}

// tree opens the bootstrap that the blob carries, nil if it carries none.
func (r *tailReader) tree(ctx context.Context, toc *blob.TOC, source blob.Source) (*rafs.Tree, error) {
	if err := r.take("the layer's bootstrap", toc.BootstrapMemory()); err != nil {
		return nil, err
	}
	bootstrap, err := toc.Bootstrap(ctx, source)
	if errors.Is(err, blob.ErrNoTOC) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	tree, err := rafs.OpenBytes(bootstrap)
	if err != nil {
		return nil, fmt.Errorf("the layer's bootstrap: %w", err)
	}
	tree.Allow(r.limits.Names, r.limits.Metadata)
	return tree, nil
}

// ownEntry finds the entry of a layer's blob table that stands for the layer's
// own data, nil if it has none.
func ownEntry(tree *rafs.Tree, id string) *rafs.Blob {
	blobs := tree.Blobs()
	for i := range blobs {
		if blob.IsSelf(blobs[i]) || blobs[i].ID == id {
			return &blobs[i]
		}
	}
	return nil
}

// dataEnd gives the offset behind a blob's chunks: in v6 blob.meta lies there,
// in v5 a tar header. A blob beside the data has none.
func dataEnd(b *rafs.Blob, size int64) int64 {
	var end uint64
	switch {
	case b != nil && b.Features&rafs.BlobSeparate != 0:
		return 0
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
