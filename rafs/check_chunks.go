package rafs

import (
	"cmp"
	"context"
	"fmt"
)

// A chunkSpace holds the chunk records of a bootstrap, to compare them with
// each other and with the blobs that they lie in.
type chunkSpace struct {
	blobs    []Blob
	metadata metadata
	records  []uint64 // offsets in the bootstrap
	// ascending asks that chunks are numbered in the order in which they are stored:
	// nydusd, which reads several at once, ends where those of v5 are not.
	ascending bool
}

func newChunkSpace(blobs []Blob, m metadata) *chunkSpace {
	return &chunkSpace{blobs: blobs, metadata: m}
}

func (s *chunkSpace) decode(at uint64) Chunk { return decodeChunk(s.metadata[at:][:chunkRecordSize]) }

// located says whether records locate the chunks of a blob. Where chunks share
// what they are stored in, only blob.meta does; legacy stargz layers are gzip
// streams of which no size is known.
func located(b *Blob) bool {
	return b.Features&(BlobBatch|BlobZran) == 0 && b.Compressor != CompressorGzip
}

// dataEnd returns where the chunks of a blob end at the latest, as stored; ok is
// false where the blob table does not say.
func dataEnd(b *Blob) (end uint64, ok bool) {
	if b.Meta.UncompressedSize > 0 && b.Features&BlobSeparate == 0 {
		return b.Meta.Offset, true // blob.meta follows the chunks
	}
	return b.CompressedSize, b.CompressedSize > 0
}

// add checks a record against its blob and keeps it.
func (s *chunkSpace) add(c *checker, field string, at uint64) {
	chunk := s.decode(at)
	if chunk.Blob < 0 || chunk.Blob >= len(s.blobs) {
		c.record(at, field, fmt.Sprintf("in one of %d blobs", len(s.blobs)), fmt.Sprintf("in blob %d", chunk.Blob))
		return
	}
	b := &s.blobs[chunk.Blob]
	s.records = append(s.records, at)
	size := chunk.UncompressedSize
	if b.ChunkCount > 0 && chunk.Index >= b.ChunkCount {
		c.record(at, field, fmt.Sprintf("one of %d in blob %d", b.ChunkCount, chunk.Blob), fmt.Sprintf("number %d", chunk.Index))
	}
	if size == 0 || size > b.ChunkSize {
		c.record(at, field, fmt.Sprintf("1 to %d bytes", b.ChunkSize), size)
	}
	if end := chunk.UncompressedOffset + uint64(size); end < chunk.UncompressedOffset || b.UncompressedSize > 0 && end > b.UncompressedSize {
		c.record(at, field, fmt.Sprintf("in the %d uncompressed bytes of blob %d", b.UncompressedSize, chunk.Blob), fmt.Sprintf("%d bytes at %d", size, chunk.UncompressedOffset))
	}
	if !located(b) {
		return
	}
	stored := chunk.CompressedSize
	if chunk.Flags&(ChunkCompressed|ChunkEncrypted) == 0 && stored != size {
		c.record(at, field, fmt.Sprintf("stored in %d bytes, as it is not compressed", size), stored)
	}
	last, known := dataEnd(b)
	if end := chunk.CompressedOffset + uint64(stored); stored == 0 || end < chunk.CompressedOffset || known && end > last {
		c.record(at, field, fmt.Sprintf("stored in the first %d bytes of blob %d", last, chunk.Blob), fmt.Sprintf("%d bytes at %d", stored, chunk.CompressedOffset))
	}
}

// check compares the records with each other: two of one number say the same,
// and two that do not have no byte in common.
func (s *chunkSpace) check(ctx context.Context, c *checker) {
	s.sort(ctx, func(a, b *Chunk) int { return cmp.Compare(a.Index, b.Index) })
	kept := s.records[:0]
	for k := range until(ctx, len(s.records)) {
		at := s.records[k]
		if len(kept) == 0 {
			kept = append(kept, at)
			continue
		}
		before, chunk := s.decode(kept[len(kept)-1]), s.decode(at)
		numbered := s.blobs[chunk.Blob].ChunkCount > 0 // old images may not number them
		switch {
		case before.Blob == chunk.Blob && before.Index == chunk.Index && sameChunk(s.metadata[s.records[k]:][:chunkRecordSize], s.metadata[kept[len(kept)-1]:][:chunkRecordSize]):
			continue
		case before.Blob == chunk.Blob && before.Index == chunk.Index && numbered:
			c.record(at, fmt.Sprintf("chunk %d of blob %d", chunk.Index, chunk.Blob), "the same everywhere", "two that differ")
		case s.ascending && before.Blob == chunk.Blob && numbered && chunk.CompressedOffset < before.CompressedOffset:
			c.record(at, fmt.Sprintf("chunk %d of blob %d", chunk.Index, chunk.Blob), fmt.Sprintf("stored behind chunk %d", before.Index), "stored before it")
		}
		kept = append(kept, at)
	}
	s.records = kept
	s.overlaps(ctx, c, "uncompressed", func(chunk *Chunk) (uint64, uint64, bool) {
		return chunk.UncompressedOffset, uint64(chunk.UncompressedSize), true
	}, func(a, b *Chunk) bool { return storedAlike(a, b) || !located(&s.blobs[b.Blob]) })
	s.overlaps(ctx, c, "stored", func(chunk *Chunk) (uint64, uint64, bool) {
		return chunk.CompressedOffset, uint64(chunk.CompressedSize), located(&s.blobs[chunk.Blob])
	}, func(a, b *Chunk) bool { return a.Flags == b.Flags })
}

// overlaps reports chunks that share bytes without being one: with one digest, and
// alike.
func (s *chunkSpace) overlaps(ctx context.Context, c *checker, what string, place func(*Chunk) (offset, size uint64, known bool), alike func(a, b *Chunk) bool) {
	s.sort(ctx, func(a, b *Chunk) int {
		offsetA, _, _ := place(a)
		offsetB, _, _ := place(b)
		return cmp.Or(cmp.Compare(offsetA, offsetB), cmp.Compare(a.Index, b.Index))
	})
	var before Chunk // the one that ends last
	var start, end uint64
	for k := range until(ctx, len(s.records)) {
		at := s.records[k]
		chunk := s.decode(at)
		offset, size, known := place(&chunk)
		if !known {
			continue
		}
		if k > 0 && before.Blob == chunk.Blob && offset < end {
			same := offset == start && offset+size == end && before.Digest == chunk.Digest && alike(&before, &chunk)
			if !same {
				c.record(at, fmt.Sprintf("chunk %d of blob %d", chunk.Index, chunk.Blob), what+" in bytes of its own",
					fmt.Sprintf("%d bytes at %d, which chunk %d has as well", size, offset, before.Index))
			}
		}
		if before.Blob != chunk.Blob || offset+size > end || end == 0 {
			before, start, end = chunk, offset, offset+size
		}
	}
}

// sort sorts the records by blob, then as order says.
func (s *chunkSpace) sort(ctx context.Context, order func(a, b *Chunk) int) {
	sortUntil(ctx, s.records, func(x, y uint64) int {
		a, b := s.decode(x), s.decode(y)
		return cmp.Or(cmp.Compare(a.Blob, b.Blob), order(&a, &b), cmp.Compare(x, y))
	})
}

// checkPrefetch checks a table of inodes that are to be prefetched; 0 is padding.
func (c *checker) checkPrefetch(table []byte) {
	for ; len(table) >= 4; table = table[4:] {
		if node := uint64(le.Uint32(table)); node != 0 && !c.reached.has(node) {
			c.problem("", "prefetch table", "inodes of the tree", node)
		}
	}
}
