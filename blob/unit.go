package blob

import (
	"bytes"
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// A unit is what has to be fetched and decoded as one: a chunk or, where chunks
// share what they are stored in, a batch or a slice of a gzip stream. Offsets and
// sizes are in bytes and have not been checked.
type unit struct {
	off          uint64 // in the blob
	stored, size uint32
	codec        codec
}

// check refuses sizes that would cost too much memory.
func (u *unit) check() error {
	if u.size > maxChunkSize || u.stored > maxStoredSize {
		return fmt.Errorf("%d bytes, %d stored, are over the limit of %d: %w", u.size, u.stored, maxChunkSize, rafs.ErrCorrupt)
	}
	if u.off > 1<<62 {
		return fmt.Errorf("it lies at offset %d: %w", u.off, rafs.ErrCorrupt)
	}
	return nil
}

// shared locates a chunk by blob.meta. Where it lies in a unit with others, the
// unit is in the result.
func (m *Meta) shared(c *rafs.Chunk, compressor rafs.Compressor) (shared *unit, within uint32, err error) {
	// What Check compares is all that the bootstrap knows of the place.
	if err := m.Check(c); err != nil {
		return nil, 0, err
	}
	entry := m.Chunk(int(c.Index))
	var u unit
	switch {
	case entry.Flags&MetaZran != 0 && entry.Flags&MetaBatch != 0:
		return nil, 0, fmt.Errorf("it lies in a batch and in a gzip stream: %w", rafs.ErrCorrupt)
	case entry.Flags&MetaZran != 0:
		u, err = m.slice(&entry)
	case entry.Flags&MetaBatch != 0:
		u, err = m.batch(&entry, compressor)
	default:
		return nil, 0, nil
	}
	if err == nil {
		err = u.check()
	}
	if err == nil && u.stored == 0 && u.size > 0 {
		// A context can hold enough of a gzip stream to give some bytes.
		err = fmt.Errorf("the %d bytes that it shares are stored in none: %w", u.size, rafs.ErrCorrupt)
	}
	if err == nil && (entry.Within > u.size || entry.UncompressedSize > u.size-entry.Within) {
		err = fmt.Errorf("its %d bytes at %d are not in the %d that it shares: %w", entry.UncompressedSize, entry.Within, u.size, rafs.ErrCorrupt)
	}
	if err != nil {
		return nil, 0, err
	}
	return &u, entry.Within, nil
}

// fetchShared brings chunks that lie in units with others into memory. What has
// to be fetched for them it returns: units, each with the chunks that are
// to be cut out of it. For units that are in memory, or that another call
// fetches, it starts goroutines in the group.
func (r *Reader) fetchShared(ctx context.Context, group *errgroup.Group, chunks []*entry) (wanted []*entry) {
	byUnit := make(map[key][]*entry)
	for _, e := range chunks {
		byUnit[e.unit.key] = append(byUnit[e.unit.key], e)
	}
	for _, parts := range byUnit {
		u, fresh := r.pin(*parts[0].unit)
		if fresh {
			u.parts = parts
			wanted = append(wanted, u)
			continue
		}
		group.Go(func() error {
			_, err := u.wait(ctx)
			return r.cut(u, parts, err)
		})
	}
	return wanted
}

// cut copies chunks out of their unit, verifies them, and lets go of the unit.
// They are copied so that a chunk that stays does not keep its unit in memory.
// err, if not nil, is what became of the unit. The error is that of the first
// chunk that failed; each has its own.
func (r *Reader) cut(u *entry, parts []*entry, err error) error {
	defer r.unpin(u)
	var first error
	for _, e := range parts {
		e.err = err
		if err == nil {
			e.data, e.err = r.verified(e, bytes.Clone(u.data[e.within:][:e.size]))
		}
		if e.err != nil {
			e.err = fmt.Errorf("chunk %d of blob %s: %w", e.index, e.blob, e.err)
			if first == nil {
				first = e.err
			}
		}
		close(e.ready)
	}
	return first
}
