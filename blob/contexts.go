package blob

import (
	"encoding/binary"
	"fmt"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// contextSize is the size of a context on disk, in bytes, of either kind.
const contextSize = 40

// contexts are what follows the entries of a blob.meta whose chunks share what
// they are stored in: a record for each batch or slice, and then, for slices,
// the dictionaries that they begin with. Nothing in them has been checked but
// that they lie in the table.
type contexts struct {
	data  []byte
	count uint32
}

// parseContexts finds the contexts in the uncompressed table. Their place is in
// its header: offset u64 at 40, size u64 at 48, count u32 at 56. What nydusd does
// not look at, the size of a table of batches, is not looked at either.
func parseContexts(table, header []byte, b rafs.Blob) (contexts, error) {
	if !hasContexts(b) {
		return contexts{}, nil
	}
	le := binary.LittleEndian
	off, size, count := le.Uint64(header[40:]), le.Uint64(header[48:]), le.Uint32(header[56:])
	if b.Features&rafs.BlobBatch != 0 {
		size = uint64(count) * contextSize
	}
	if off > uint64(len(table)) || size > uint64(len(table))-off || uint64(count)*contextSize > size {
		return contexts{}, fmt.Errorf("blob.meta has %d contexts in %d bytes at %d, the table %d bytes: %w",
			count, size, off, len(table), rafs.ErrCorrupt)
	}
	return contexts{data: table[off:][:size], count: count}, nil
}

// hasContexts says whether chunks of the blob may share what they are stored in.
func hasContexts(b rafs.Blob) bool { return b.Features&(rafs.BlobBatch|rafs.BlobZran) != 0 }

// at returns the record of one context.
func (c *contexts) at(number uint32) ([]byte, error) {
	if number >= c.count {
		return nil, fmt.Errorf("context %d is not among the %d of blob.meta: %w", number, c.count, rafs.ErrCorrupt)
	}
	return c.data[int(number)*contextSize:][:contextSize], nil
}

// dictionary returns size bytes at an offset of what follows the records.
func (c *contexts) dictionary(off uint64, size uint32) ([]byte, error) {
	all := c.data[int(c.count)*contextSize:]
	if off > uint64(len(all)) || uint64(size) > uint64(len(all))-off {
		return nil, fmt.Errorf("a dictionary of %d bytes at %d is not in the %d bytes of blob.meta: %w", size, off, len(all), rafs.ErrCorrupt)
	}
	return all[off:][:size], nil
}
