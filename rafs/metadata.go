package rafs

import (
	"encoding/binary"
	"fmt"
)

// Everything on disk is little-endian.
var le = binary.LittleEndian

// metadata is a whole bootstrap in memory.
type metadata []byte

// at returns the size bytes at offset. It fails with ErrCorrupt, naming what
// was looked for, if they are not all inside the bootstrap.
func (m metadata) at(what string, offset, size uint64) ([]byte, error) {
	end := offset + size
	if end < offset || end > uint64(len(m)) {
		return nil, corruptf("%s of %d bytes at offset %d lies outside the bootstrap of %d bytes",
			what, size, offset, len(m))
	}
	return m[offset:end:end], nil
}

// align8 rounds n up to a multiple of 8. It must not be near 2^64.
func align8(n uint64) uint64 { return (n + 7) &^ 7 }

// corruptf makes an error that wraps ErrCorrupt.
func corruptf(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrCorrupt, fmt.Errorf(format, args...))
}

// unsupportedf makes an error that wraps ErrUnsupported.
func unsupportedf(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrUnsupported, fmt.Errorf(format, args...))
}
