// Package blob gives the bytes of chunks: where they lie, how they are
// fetched, decompressed and verified.
//
// A [Source] is one blob as it is stored, in a registry or on disk; it gives
// ranges of it. A [Reader] holds the sources of one image, by blob ID, and the
// chunks that are in memory. A [TreeReader] is the view of one bootstrap on
// it: it turns the chunks of that bootstrap's files into bytes and implements
// [rafs.ChunkLoader]. A [Server] is what the blobs in a registry have in common.
//
// One file's bytes: the artifact hands the chunks of all files it is about to
// read to [TreeReader.Load]; they are sorted, merged over small gaps into
// spans; spans share a request where the server gives several ranges for one;
// each chunk in them is decompressed into a buffer of its declared size and its
// digest is compared with that in the bootstrap. Reads of the file are then served
// from memory. A read of a chunk that was not loaded before fetches just that chunk.
//
// Some chunks share what they are stored in: a batch of small chunks that were
// compressed together, or a slice of an OCI layer's gzip stream (zran). Such a
// unit is fetched and decoded once for all chunks that are wanted of it, and stays
// for others while there is room. Only the blob's own table, [Meta], locates it.
//
// A way to compress is a codec, one to encrypt a decrypter: each has a file.
//
// Nothing is returned that was not verified.
package blob

import (
	"context"
	"errors"
	"fmt"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

var (
	// ErrDigest is wrapped by errors about bytes that are not those that their
	// digest names.
	ErrDigest = errors.New("digest mismatch")
	// ErrIncomplete is wrapped by errors about bytes that could not be had in
	// full: a missing or truncated blob, a registry that gave up.
	ErrIncomplete = errors.New("could not be read in full")
	// ErrMissing is wrapped, beside ErrIncomplete, by errors about a blob that the
	// place which should hold it says it has not.
	ErrMissing = errors.New("the blob is missing")
	// ErrSize is wrapped, beside ErrIncomplete, by errors about a blob that is
	// shorter or longer there than the manifest says.
	ErrSize = errors.New("size mismatch")
)

// A Source gives the bytes of one blob as stored. It is safe for concurrent
// use.
type Source interface {
	// Size is the blob's size in bytes, as the manifest gives it.
	Size() int64
	// ReadRange fills p with the bytes at off. It returns nil only when all of
	// p was filled.
	ReadRange(ctx context.Context, p []byte, off int64) error
}

// checkRange says whether n bytes at off lie in a blob of the given size. If
// not, either the blob was cut off before the manifest was written, or what
// located the bytes is wrong.
func checkRange(off, n, size int64) error {
	if off < 0 || n < 0 || n > size || off > size-n {
		return fmt.Errorf("bytes %d to %d lie outside the blob's %d bytes: %w: %w", off, off+n, size, ErrIncomplete, rafs.ErrCorrupt)
	}
	return nil
}
