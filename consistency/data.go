package consistency

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/blob"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// parallelBlobs is how many blobs are read at once: each is decompressed by one
// goroutine and hashed by another.
const parallelBlobs = 2

// A dataCheck collects what the data rule finds.
type dataCheck struct {
	images    Images
	bootstrap *nydusimage.Bootstrap
	merged    *rafs.Tree // the bootstrap's, with its chunks' digests
	tails     []layerTail

	mu     sync.Mutex
	result Result
	counts *Counts
	errs   []error
}

// checkData is [RuleData]: every byte of every data blob is what its digest in
// the manifest says, and every chunk that a bootstrap lists is what its digest
// there says. Each blob is read once, from its beginning to its end; the chunks
// are cut out of it on the way.
func checkData(ctx context.Context, images Images, _ Options, counts *Counts) Result {
	c := &dataCheck{images: images, counts: counts}
	c.run(ctx)
	c.result.Err = errors.Join(c.errs...)
	return c.result
}

func (c *dataCheck) run(ctx context.Context) {
	var err error
	if c.bootstrap, err = c.images.bootstrap(ctx); err != nil {
		// The blobs can be read without.
		c.failed(pathBootstrap, "bootstrap layer", err)
	} else if c.bootstrap.Backend != nil || len(c.images.Target.Layers) == 0 && len(c.bootstrap.Tree.Blobs()) > 0 {
		c.failed(pathBootstrap, "data", fmt.Errorf("it lies in a backend outside of the registry, which is not read: %w", rafs.ErrUnsupported))
		return
	} else {
		c.tails = c.images.tails(ctx, c.bootstrap)
		c.merged = nydusmount.WithChunks(c.images.Target, c.bootstrap.Tree, readable(c.tails), nil)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelBlobs)
	done := make(map[v1.Hash]bool)
	for i := range c.images.Target.Layers {
		layer := &c.images.Target.Layers[i]
		if done[layer.Digest] {
			continue
		}
		done[layer.Digest] = true
		group.Go(func() error {
			c.checkLayer(ctx, i)
			return context.Cause(ctx)
		})
	}
	if err := group.Wait(); err != nil {
		c.errs = append(c.errs, err)
	}
}

// checkLayer reads a layer's blob and, where its data lies in an OCI layer, that.
func (c *dataCheck) checkLayer(ctx context.Context, i int) {
	layer := &c.images.Target.Layers[i]
	var table *rafs.Blob
	if i < len(c.tails) {
		switch t := &c.tails[i]; {
		case t.err == nil:
			table = t.tail.Table
		case !c.images.isFault(t.err):
			c.failed(blobPath(layer.Digest), "tail", t.err)
			return
		default:
			// The bootstrap rule reports it; merged entries are left to verify by.
			table = c.mergedEntry(layer.BlobID())
		}
	}
	refers := layer.Ref != v1.Hash{}
	if !refers {
		c.checkBlob(ctx, layer.Source, layer.Digest, c.wanted(ctx, i, table))
		return
	}
	c.checkBlob(ctx, layer.Source, layer.Digest, nil)
	if table == nil {
		return // it holds no data
	}
	if table.CompressedSize > math.MaxInt64 {
		c.failed(blobPath(layer.Ref), "size", fmt.Errorf("%d bytes: %w", table.CompressedSize, rafs.ErrCorrupt))
		return
	}
	data, err := c.images.Target.Data(layer, int64(table.CompressedSize))
	if err != nil {
		c.failed(blobPath(layer.Ref), "data", err)
		return
	}
	c.checkBlob(ctx, data, layer.Ref, c.wanted(ctx, i, table))
}

// mergedEntry finds a blob in the merged bootstrap's table.
func (c *dataCheck) mergedEntry(id string) *rafs.Blob {
	blobs := c.bootstrap.Tree.Blobs()
	for i := range blobs {
		if blobs[i].ID == id {
			return &blobs[i]
		}
	}
	return nil
}

// blobPath is the path under which a blob is reported.
func blobPath(digest v1.Hash) string { return "blob " + digest.String() }

// checkBlob reads a whole blob and verifies it and the chunks in it.
func (c *dataCheck) checkBlob(ctx context.Context, source blob.Source, digest v1.Hash, wanted *wantedChunks) {
	s := newScan(ctx, source, digest.String())
	defer s.close()
	var err error
	chunks := int64(0)
	if wanted != nil {
		chunks, err = c.checkChunks(ctx, s, digest, wanted)
	}
	if err == nil && wanted != nil && wanted.tail != nil {
		err = c.checkTail(ctx, s, digest, wanted.tail)
	}
	if err == nil {
		err = s.finish()
	}
	c.mu.Lock()
	c.counts.BlobBytes += s.offset()
	c.counts.BlobChunks += chunks
	if s.offset() == 0 && source.Size() > 0 {
		c.counts.BlobsUnread++
	}
	c.mu.Unlock()
	if err == nil {
		return
	}
	field := "content"
	switch {
	case errors.Is(err, blob.ErrDigest) && c.images.Target.InRegistry():
		// What the registry gives is not the blob that the manifest names.
		c.mu.Lock()
		defer c.mu.Unlock()
		c.errs = append(c.errs, fmt.Errorf("%s: %w", blobPath(digest), err))
		return
	case errors.Is(err, blob.ErrMissing):
		field = "missing"
	case errors.Is(err, blob.ErrSize):
		field = "size"
	}
	c.failed(blobPath(digest), field, err)
}

// checkChunks verifies the chunks of a blob in the order in which they are
// stored, and returns how many were right. Its error is that of reading the blob.
func (c *dataCheck) checkChunks(ctx context.Context, s *scan, digest v1.Hash, wanted *wantedChunks) (verified int64, err error) {
	readers := wanted.readers(ctx, s)
	for k := range wanted.chunks {
		w := &wanted.chunks[k]
		_, err := readers[w.tree].ReadChunk(&w.chunk)
		switch {
		case err == nil:
			verified++
			continue
		case s.failure() != nil:
			return verified, s.failure()
		}
		path := fmt.Sprintf("%s chunk %d", blobPath(digest), w.chunk.Index)
		if c.images.isFault(err) {
			c.differ(path, "content", fmt.Sprintf("%x, in %q", w.chunk.Digest, w.path), err.Error())
		} else {
			c.failed(path, "content", err)
		}
	}
	return verified, nil
}

// checkTail compares a tail by which chunks were located and verified with that of
// the blob as it passes by, which the manifest vouches for. Its error is that of
// reading the blob.
func (c *dataCheck) checkTail(ctx context.Context, s *scan, digest v1.Hash, tail *nydusmount.Tail) error {
	if tail.Sum == [sha256.Size]byte{} {
		c.failed(blobPath(digest), "tail", fmt.Errorf("it is too long to be kept: %w", nydusmount.ErrUnvouched))
		return nil
	}
	end := make([]byte, s.Size()-tail.Start)
	if err := s.ReadRange(ctx, end, tail.Start); err != nil {
		return err
	}
	if got := sha256.Sum256(end); got != tail.Sum {
		c.differ(blobPath(digest), "tail", fmt.Sprintf("sha256:%x, as it was read before", tail.Sum), fmt.Sprintf("sha256:%x", got))
	}
	return nil
}

func (c *dataCheck) differ(path, field, want, got string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.result.Differences = append(c.result.Differences, Difference{Path: path, Field: field, Want: want, Got: got})
}

// failed takes an error for a difference where it is the image's fault.
func (c *dataCheck) failed(path, field string, err error) {
	if c.images.isFault(err) {
		c.differ(path, field, "what the manifest names", err.Error())
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.errs = append(c.errs, fmt.Errorf("%s: %w", path, err))
}
