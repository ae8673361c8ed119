package blob

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// deflateWindow is how far back deflate refers, in bytes, and so the longest
// dictionary that makes sense.
const deflateWindow = 32 << 10

// slice returns where a slice of an OCI layer's gzip stream lies, and what it
// takes to inflate it from there (ZranInflateContext in storage/src/meta/zran.rs
// of the Nydus project): in_offset u64 at 0; dict_offset u64 at 16; in_len u32,
// out_len u32, dict_size u32 from 24; ctx_byte u8, ctx_bits u8 from 36.
func (m *Meta) slice(c *MetaChunk) (unit, error) {
	context, err := m.contexts.at(c.Context)
	if err != nil {
		return unit{}, err
	}
	le := binary.LittleEndian
	z := zranCodec{before: context[36], bits: context[37]}
	size := le.Uint32(context[32:])
	if size > deflateWindow || z.bits > 7 {
		return unit{}, fmt.Errorf("context %d of blob.meta has a dictionary of %d bytes and %d bits before it: %w", c.Context, size, z.bits, rafs.ErrCorrupt)
	}
	if z.dictionary, err = m.contexts.dictionary(le.Uint64(context[16:]), size); err != nil {
		return unit{}, err
	}
	return unit{
		off:    le.Uint64(context),
		stored: le.Uint32(context[24:]),
		size:   le.Uint32(context[28:]),
		codec:  z,
	}, nil
}

// zranCodec is that of a slice of a gzip stream that begins with a block of
// deflate, anywhere in a member, and may go on through several members.
type zranCodec struct {
	// dictionary is what the stream gives before the slice.
	dictionary []byte
	// bits says how many of the byte before the slice, the high ones, belong to
	// the first block.
	before, bits uint8
}

func (z zranCodec) decode(stored []byte, size int) ([]byte, error) {
	out := make([]byte, size)
	n, err := z.inflate(out, stored)
	if err != nil {
		return nil, fmt.Errorf("slice of a gzip stream gives %d bytes, not %d (%v): %w", n, size, err, rafs.ErrCorrupt)
	}
	return out, nil
}

// inflate fills out and returns how much of it was filled.
func (z zranCodec) inflate(out, stored []byte) (int, error) {
	source := &sliceReader{prefix: z.prefix(), stored: stored, padding: slicePadding}
	inflater := inflaters.Get().(io.Reader)
	defer inflaters.Put(inflater)
	if err := inflater.(flate.Resetter).Reset(source, z.dictionary); err != nil {
		return 0, err
	}
	n := 0
	for n < len(out) {
		m, err := inflater.Read(out[n:])
		n += m
		if errors.Is(err, io.EOF) && n < len(out) {
			// An inflater reads no byte of an [io.ByteReader] that is not the
			// member's, so here it ends.
			next, err := nextMember(source.stored)
			if err != nil {
				return n, err
			}
			m, err := io.ReadFull(next, out[n:])
			return n + m, err
		}
		if err != nil && n < len(out) {
			return n, err
		}
	}
	return n, nil
}

// prefix returns bytes that lead an inflater to where the slice begins, amid the
// last of them; none if it begins with a byte. The stream cannot just be shifted:
// some blocks begin with a byte.
func (z zranCodec) prefix() []byte {
	if z.bits == 0 {
		return nil
	}
	prefix := emptyBlocks(8 - z.bits)
	prefix[len(prefix)-1] |= z.before &^ (0xff >> z.bits)
	return prefix
}

// nextMember opens the members that follow one, of which the trailer, 8 bytes,
// is left.
func nextMember(rest []byte) (io.Reader, error) {
	const trailer = 8
	if len(rest) < trailer {
		return nil, errors.New("it ends in the trailer of a member")
	}
	return gzip.NewReader(&sliceReader{stored: rest[trailer:], padding: slicePadding})
}

// slicePadding is how many bytes an inflater may want to see behind a slice. The
// slice ends with the last bit that its chunks need, the inflater looks ahead for
// as many as a code of deflate has at most.
const slicePadding = 2

// A sliceReader reads a slice of a stream with something before and after it.
type sliceReader struct {
	prefix, stored []byte
	padding        int // zeros
}

// ReadByte implements [io.ByteReader].
func (r *sliceReader) ReadByte() (byte, error) {
	if len(r.prefix) == 0 && len(r.stored) > 0 {
		b := r.stored[0]
		r.stored = r.stored[1:]
		return b, nil
	}
	var b [1]byte
	_, err := r.Read(b[:])
	return b[0], err
}

func (r *sliceReader) Read(p []byte) (n int, err error) {
	switch {
	case len(r.prefix) > 0:
		n = copy(p, r.prefix)
		r.prefix = r.prefix[n:]
	case len(r.stored) > 0:
		n = copy(p, r.stored)
		r.stored = r.stored[n:]
	case r.padding > 0:
		n = min(len(p), r.padding)
		clear(p[:n])
		r.padding -= n
	default:
		return 0, io.EOF
	}
	return n, nil
}

// inflaters are reused: an inflater's window costs more than a small slice. They
// are those of the standard library: others look further ahead, behind the end of
// a member.
var inflaters = sync.Pool{New: func() any { return flate.NewReader(bytes.NewReader(nil)) }}
