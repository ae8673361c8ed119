package consistency

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync/atomic"

	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/blob"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

const (
	// maxWindow bounds the memory of one zstd decoder, and parallelZstd how many
	// there are: the largest window that the zstd command reads unasked is as
	// large. A gzip decoder takes next to nothing.
	maxWindow    = 128 << 20
	parallelZstd = 2
	// dockerLayerZstd is what containerd, too, reads as a layer, and the library
	// has no name for.
	dockerLayerZstd types.MediaType = "application/vnd.docker.image.rootfs.diff.tar.zstd"
)

// A layerReader reads the layers of an OCI image.
type layerReader struct {
	plan   *plan
	budget *budget
	zstd   *semaphore.Weighted
	bytes  atomic.Int64 // read so far, as stored
}

// readOCI reads the layers of an image, several at once, and applies them. What
// a layer says counts only when its digest and its diff ID were right.
func readOCI(ctx context.Context, image *nydusimage.OCI, p *plan) (*ociTree, int64, error) {
	for n := range image.Layers {
		if err := checkMediaType(image.Layers[n].MediaType); err != nil {
			return nil, 0, layerError(image, n, err)
		}
	}
	r := &layerReader{plan: p, budget: newBudget(image.Limits().Metadata), zstd: semaphore.NewWeighted(parallelZstd)}
	layers := make([]*ociLayer, len(image.Layers))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(2 * runtime.GOMAXPROCS(0))
	for n := range image.Layers {
		group.Go(func() (err error) {
			if layers[n], err = r.read(groupCtx, &image.Layers[n]); err != nil {
				return layerError(image, n, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, r.bytes.Load(), err
	}
	tree := &ociTree{root: impliedDirectory()}
	for n, l := range layers {
		if err := tree.apply(l); err != nil {
			return nil, r.bytes.Load(), layerError(image, n, err)
		}
		layers[n] = nil
	}
	tree.number()
	return tree, r.bytes.Load(), nil
}

func layerError(image *nydusimage.OCI, n int, err error) error {
	return fmt.Errorf("layer %d of %d, %s: %w", n+1, len(image.Layers), image.Layers[n].Digest, err)
}

// checkMediaType refuses, by name, what is not a layer that a registry holds in
// the clear.
func checkMediaType(t types.MediaType) error {
	switch {
	case t == dockerLayerZstd:
		return nil
	case strings.HasSuffix(string(t), "+encrypted"):
		return fmt.Errorf("media type %q: encrypted layers are not read: %w", t, rafs.ErrUnsupported)
	case !t.IsDistributable():
		return fmt.Errorf("media type %q: foreign layers are not in the registry and not read: %w", t, rafs.ErrUnsupported)
	case !t.IsLayer():
		return fmt.Errorf("media type %q is not that of a layer: %w", t, rafs.ErrUnsupported)
	}
	return nil
}

// read reads one layer, from its first byte to its last.
func (r *layerReader) read(ctx context.Context, layer *nydusimage.Layer) (*ociLayer, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream := blob.NewStream(ctx, layer.Source, layer.Digest.String())
	defer stream.Close()
	defer func() { r.bytes.Add(stream.Offset()) }()
	archive, err := r.decompress(ctx, stream)
	if err != nil {
		return nil, err
	}
	defer archive.Close()
	// Decompression goes on while entries are read and hashed.
	ahead := newReadAhead(archive)
	defer ahead.close()
	l := newLayer(r.plan, r.budget)
	if err := r.unpack(ctx, ahead, layer.DiffID, l); err != nil {
		cancel() // what is being read ahead
		return nil, err
	}
	return l, nil
}

// unpack reads an archive to its end, and what follows it. A kilobyte of a layer can
// decompress to gigabytes that nobody wants: the stream below does not notice the end
// of ctx for as long.
func (r *layerReader) unpack(ctx context.Context, archive io.Reader, diffID string, l *ociLayer) error {
	hash := sha256.New()
	tee := io.TeeReader(&contextReader{ctx, archive}, hash)
	if err := l.read(ctx, tee); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, tee); err != nil {
		return err
	}
	if got := fmt.Sprintf("sha256:%x", hash.Sum(nil)); diffID != "" && got != diffID {
		return fmt.Errorf("uncompressed it hashes to %s, the config says %s: %w", got, diffID, blob.ErrDigest)
	}
	return nil
}

// decompress tells gzip, zstd and plain tar by their first bytes, as container
// runtimes do: media types are not to be relied on.
func (r *layerReader) decompress(ctx context.Context, stored io.Reader) (io.ReadCloser, error) {
	buffered := bufio.NewReaderSize(stored, 128<<10)
	magic, err := buffered.Peek(4)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		return gzip.NewReader(buffered)
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}), isSkippable(magic):
		if err := r.zstd.Acquire(ctx, 1); err != nil {
			return nil, context.Cause(ctx)
		}
		decoder, err := zstd.NewReader(buffered, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			r.zstd.Release(1)
			return nil, err
		}
		return &zstdReader{decoder, r.zstd}, nil
	}
	return io.NopCloser(buffered), nil
}

// isSkippable tells the magic number of a zstd frame that holds no data, such as
// zstd:chunked writes.
func isSkippable(magic []byte) bool {
	return len(magic) == 4 && magic[0]&0xf0 == 0x50 && bytes.Equal(magic[1:], []byte{0x2a, 0x4d, 0x18})
}

// A zstdReader gives its decoder's memory back when it is closed.
type zstdReader struct {
	*zstd.Decoder
	taken *semaphore.Weighted
}

func (z *zstdReader) Close() error {
	z.Decoder.Close()
	z.taken.Release(1)
	return nil
}
