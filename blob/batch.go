package blob

import (
	"encoding/binary"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// batch returns where a batch is stored: small chunks that were compressed
// together (storage/src/meta/batch.rs of the Nydus project). Its context has the
// compressed size u32 at 0 and the uncompressed one u32 at 4; it lies where its
// chunks say.
func (m *Meta) batch(c *MetaChunk, compressor rafs.Compressor) (unit, error) {
	context, err := m.contexts.at(c.Context)
	if err != nil {
		return unit{}, err
	}
	packed, err := codecFor(compressor)
	if err != nil {
		return unit{}, err
	}
	return unit{
		off:    c.CompressedOffset,
		stored: binary.LittleEndian.Uint32(context),
		size:   binary.LittleEndian.Uint32(context[4:]),
		codec:  batchCodec{packed},
	}, nil
}

// batchCodec is that of a batch, of which no flag says whether it is compressed:
// it is, unless that did not make it smaller.
type batchCodec struct{ packed codec }

func (b batchCodec) decode(stored []byte, size int) ([]byte, error) {
	if len(stored) == size {
		return stored, nil
	}
	return b.packed.decode(stored, size)
}
