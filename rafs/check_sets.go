package rafs

import (
	"maps"
	"slices"
)

// A bitSet is a set of small numbers. It does not grow.
type bitSet []uint64

// add adds n and tells whether it was not there. A number that is too large for
// the set is there always.
func (s bitSet) add(n uint64) bool {
	word, bit := n/64, uint64(1)<<(n%64)
	if word >= uint64(len(s)) || s[word]&bit != 0 {
		return false
	}
	s[word] |= bit
	return true
}

func (s bitSet) has(n uint64) bool {
	return n/64 < uint64(len(s)) && s[n/64]>>(n%64)&1 != 0
}

// claimUnit is what the parts of a bootstrap are aligned to, in bytes. The last
// part of an inode may end between.
const claimUnit = 4

// claims are the bytes of a bootstrap that belong to a part of it already.
type claims bitSet

func newClaims(size uint64) claims { return make(claims, size/claimUnit/64+1) }

// claim takes size bytes at offset, which must be inside the bootstrap. It fails,
// and takes nothing, if some of them belong to another part. Since no byte is
// taken twice, all claims that succeed cost no more than the bootstrap's size.
func (c claims) claim(offset, size uint64) bool {
	first, end := offset/claimUnit, (offset+size+claimUnit-1)/claimUnit
	for word, mask := range maskedWords(first, end) {
		if c[word]&mask != 0 {
			return false
		}
	}
	for word, mask := range maskedWords(first, end) {
		c[word] |= mask
	}
	return true
}

// maskedWords gives the words that hold the bits first to end, and which of their
// bits these are.
func maskedWords(first, end uint64) func(yield func(word, mask uint64) bool) {
	return func(yield func(word, mask uint64) bool) {
		for bit := first; bit < end; {
			next := min(bit&^63+64, end)
			mask := ^uint64(0) << (bit % 64)
			if next%64 != 0 {
				mask &= 1<<(next%64) - 1
			}
			if !yield(bit/64, mask) {
				return
			}
			bit = next
		}
	}
}

func sortedKeys[V any](m map[uint64]V) []uint64 { return slices.Sorted(maps.Keys(m)) }
