// Package inspect answers questions about a Nydus image: what its tree holds,
// which blob, layer and chunk a file lies in, what layers change.
//
// A [Session] is an image, or a bare bootstrap, with a current directory. A
// [Call] is one command of the table [Commands] with its arguments, as [Parse]
// reads them. [Session.Run] gives its [Answer], which writes itself as text for
// people or as one JSON document for programs. [Session.Serve] does so for
// command after command: the prompt, and a program's session.
//
// Nothing is fetched beyond manifest and bootstrap unless the command needs it:
// the tails of blobs for what layers say of themselves, data for the contents
// of files, and that only verified.
//
// In JSON, a string of an image is UTF-8. Where it is not in the image, the
// bytes that are not UTF-8 are U+FFFD and the field of the same name with the
// suffix _base64 has the bytes as they are. In text, [Escape] shows them.
package inspect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/blob"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// ErrNoImage is wrapped by errors about commands that need more than a bare
// bootstrap.
var ErrNoImage = errors.New("a bootstrap alone has no manifest and no blobs: give the image")

// DefaultMaxOutput is how many bytes of files a command writes: more than the largest
// images that are known. Holes are written as zeros, and a chunk as often as the
// bootstrap names it, so that a kilobyte of an image may ask for exabytes.
const DefaultMaxOutput int64 = 100_000_000_000

// A Session is an image that is being looked into. It is for one goroutine.
type Session struct {
	image     *nydusimage.Image     // nil for a bare bootstrap
	tree      *rafs.Tree            // of the whole image
	bootstrap *nydusimage.Bootstrap // nil with image
	directory string                // current, as rafs has paths: "." is the root

	// AllowUnverified lets data be read for whose digests the manifest does not vouch
	// ([nydusmount.AllowUnverified]); Warn, if not nil, is told so.
	AllowUnverified bool
	Warn            func(line string)

	// MaxOutput bounds the bytes of files that a command writes; 0 is DefaultMaxOutput.
	MaxOutput int64

	// What is read only when it is needed.
	tails  []*nydusmount.Tail // by layer
	tables map[int]*blob.Meta // by index in the blob table
	budget *rafs.Budget       // of memory for tails and tables
	mounts map[string]*opened // by the layers that they are for
}

// Open fetches the bootstrap of an image, which stays the caller's. Where that has
// no table of the image's chunks, the tails of the blobs are fetched, too.
func Open(ctx context.Context, image *nydusimage.Image) (*Session, error) {
	b, err := image.Bootstrap(ctx)
	if err != nil {
		return nil, err
	}
	s := &Session{
		image:     image,
		budget:    image.MetadataBudget(),
		bootstrap: b,
		tree:      b.Tree,
		directory: root,
		tails:     make([]*nydusmount.Tail, len(image.Layers)),
	}
	return s, s.completeChunks(ctx)
}

// completeChunks takes what a bootstrap without a chunk table does not say of chunks
// from the blobs. What cannot be read of these is left open: it is reported when
// data is read.
func (s *Session) completeChunks(ctx context.Context) error {
	if !s.tree.LacksChunkTable() {
		return nil
	}
	for i := range s.image.Layers {
		if _, err := s.tail(ctx, i+1); err != nil && ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	s.tree = nydusmount.WithChunks(s.image, s.tree, s.tails, nil)
	return nil
}

// IsBootstrap says whether a path is that of a regular file that begins with a
// RAFS superblock. What cannot be read is none.
func IsBootstrap(name string) bool {
	info, err := os.Stat(name)
	if err != nil || !info.Mode().IsRegular() {
		return false // a named pipe would wait
	}
	file, err := os.Open(name)
	if err != nil {
		return false
	}
	defer file.Close()
	head := make([]byte, 2<<10)
	n, _ := io.ReadFull(file, head)
	return rafs.IsBootstrap(head[:n])
}

// OpenBootstrap opens a bootstrap in a file of this machine. The zero limits are the
// defaults.
func OpenBootstrap(name string, limits nydusimage.Limits) (*Session, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	limits = limits.WithDefaults()
	if info.Size() > limits.Metadata {
		return nil, &rafs.LimitError{Bound: rafs.BoundMetadata, What: fmt.Sprintf("%s, of %d bytes", name, info.Size()), Allowed: limits.Metadata}
	}
	tree, err := rafs.Open(file, info.Size())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	tree.Allow(limits.Names, limits.Metadata)
	return &Session{tree: tree, directory: root}, nil
}

// Close ends what the session still reads. The image is not closed.
func (s *Session) Close() error {
	var errs []error
	for _, m := range s.mounts {
		m.end()
		errs = append(errs, m.mount.Close())
	}
	return errors.Join(errs...)
}

// treeOf returns the tree of a layer, counted from 1, or with 0 that of the
// whole image.
func (s *Session) treeOf(ctx context.Context, layer int) (*rafs.Tree, error) {
	if layer == 0 {
		return s.tree, nil
	}
	tail, err := s.tail(ctx, layer)
	if err != nil {
		return nil, err
	}
	if tail.Tree == nil {
		return nil, fmt.Errorf("layer %d: %w", layer, blob.ErrNoTOC)
	}
	return nydusmount.WithChunks(s.image, tail.Tree, s.tails, tail), nil
}

// tail reads what follows the data in the blob of a layer, counted from 1.
func (s *Session) tail(ctx context.Context, layer int) (*nydusmount.Tail, error) {
	if s.image == nil {
		return nil, ErrNoImage
	}
	if layer < 1 || layer > len(s.image.Layers) {
		return nil, &UsageError{fmt.Errorf("there is no layer %d: the image has %d", layer, len(s.image.Layers)), hintLayers}
	}
	if tail := s.tails[layer-1]; tail != nil {
		return tail, nil
	}
	l := &s.image.Layers[layer-1]
	tail, err := nydusmount.ReadTail(ctx, s.image, l, s.entry(l.BlobID()), s.tree.LacksChunkTable(), s.budget)
	if err != nil {
		return nil, fmt.Errorf("layer %d of %d, blob %s: %w", layer, len(s.image.Layers), l.Digest, err)
	}
	s.tails[layer-1] = tail
	return tail, nil
}

// entry returns the entry of a blob in the blob table, nil if there is none.
func (s *Session) entry(id string) *rafs.Blob {
	blobs := s.tree.Blobs()
	for i := range blobs {
		if blobs[i].ID == id {
			return &blobs[i]
		}
	}
	return nil
}

// layerOf returns the layer, counted from 1, whose data a blob is; 0 if none.
func (s *Session) layerOf(id string) int {
	if s.image == nil {
		return 0
	}
	for i := range s.image.Layers {
		if s.image.Layers[i].BlobID() == id {
			return i + 1
		}
	}
	return 0
}

// table returns blob.meta of a blob in which only that locates chunks: that of
// the bootstrap layer, which has been fetched, or else that of the blob itself. It
// is nil for a blob that needs none, and where there is none.
func (s *Session) table(ctx context.Context, index int) (*blob.Meta, error) {
	b := s.tree.Blobs()[index]
	if !blob.NeedsMeta(b) || !blob.HasMeta(b) {
		return nil, nil
	}
	if table := s.tables[index]; table != nil {
		return table, nil
	}
	var table *blob.Meta
	if file, ok := s.metaFile(b.ID); ok && (b.Cipher == rafs.CipherNone || blob.MetaIsPlain(file)) {
		var err error
		if table, err = blob.ParseMeta(file, b); err != nil {
			return nil, fmt.Errorf("blob %s in the bootstrap layer: %w", b.ID, err)
		}
	} else if layer := s.layerOf(b.ID); layer > 0 {
		tail, err := s.tail(ctx, layer)
		if err != nil {
			return nil, err
		}
		table = tail.Meta
	}
	if table != nil {
		if s.tables == nil {
			s.tables = make(map[int]*blob.Meta)
		}
		s.tables[index] = table
	}
	return table, nil
}

// metaFile returns the bootstrap layer's blob.meta for a blob.
func (s *Session) metaFile(id string) ([]byte, bool) {
	layer := s.layerOf(id)
	if layer == 0 {
		return nil, false
	}
	ids := s.image.Layers[layer-1].MetaIDs()
	for _, id := range slices.Backward(ids) { // that of nydusd first
		if file, ok := s.bootstrap.Metas[id]; ok {
			return file, true
		}
	}
	return nil, false
}
