package blob

// A bitWriter is a stream of deflate (RFC 1951) in the making: the first bit is the
// lowest of the first byte.
type bitWriter struct {
	bytes []byte
	count uint
}

// write appends the lowest size bits of value, the lowest first.
func (b *bitWriter) write(value, size uint) {
	for i := range size {
		if b.count%8 == 0 {
			b.bytes = append(b.bytes, 0)
		}
		b.bytes[b.count/8] |= byte(value>>i&1) << (b.count % 8)
		b.count++
	}
}

// emptyBlocks returns blocks of deflate that stand for no data and end within the
// last byte: they take as many of its bits, the low ones, as are asked for, 1 to 7.
func emptyBlocks(used uint8) []byte {
	var b bitWriter
	if used%2 == 1 {
		b.emptyDynamic()
	}
	for b.count%8 != uint(used) {
		b.emptyFixed()
	}
	return b.bytes
}

// emptyFixed writes a block with the codes that deflate defines, in 10 bits.
func (b *bitWriter) emptyFixed() {
	b.write(0, 1) // not the last block
	b.write(1, 2) // fixed codes
	b.write(0, 7) // end of the block
}

// emptyDynamic writes a block with codes of its own, in 93 bits: an odd number.
func (b *bitWriter) emptyDynamic() {
	b.write(0, 1)  // not the last block
	b.write(2, 2)  // codes of its own
	b.write(0, 5)  // 257 codes of literals and lengths
	b.write(0, 5)  // 1 code of distances
	b.write(14, 4) // 18 codes of code lengths, in the order that deflate gives them:
	for _, symbol := range []uint{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1} {
		// Code 0 for the length 0, 10 for 1, 11 for a run of zeros (18).
		b.write(map[uint]uint{0: 1, 1: 2, 18: 2}[symbol], 3)
	}
	b.write(3, 2)
	b.write(138-11, 7) // 138 literals without a code
	b.write(3, 2)
	b.write(118-11, 7) // and 118
	b.write(1, 2)      // end of the block: a code of 1 bit
	b.write(0, 1)      // no distance
	b.write(0, 1)      // end of the block
}
