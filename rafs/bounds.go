package rafs

import (
	"fmt"
	"math"
	"sync/atomic"
)

// A Bound is one of the bounds that a user may raise for an image that is larger
// than any that is known and is trusted. The others, in limits.go, are those of the
// format or of its runtimes: what breaks them does not run either.
type Bound string

// The bounds.
const (
	// BoundMetadata is on the bytes that an image's metadata takes in memory.
	BoundMetadata Bound = "metadata"
	// BoundNames is on the names in a tree.
	BoundNames Bound = "names"
	// BoundFile is on the bytes that are read of one file.
	BoundFile Bound = "file"
	// BoundTemp is on the bytes in temporary files.
	BoundTemp Bound = "temp"
	// BoundOutput is on the bytes of files that a command writes.
	BoundOutput Bound = "output"
)

const (
	// DefaultMetadata is what the metadata of an image may take, in bytes: that of
	// some four million files. A megabyte of an image can stand for a gigabyte of
	// zeros.
	DefaultMetadata int64 = 1_000_000_000
	// DefaultNames is how many names a tree may have: several times those of the
	// largest images that are known. A scan takes up to 1 kB for each.
	DefaultNames int64 = 2_000_000
	// namePath is how long the paths of a tree may be on average, in bytes: three
	// times what they are in node_modules. All paths of a tree are kept, and a
	// bootstrap of a megabyte can hold gigabytes of them: a name takes 13 bytes
	// there, the directories above it nothing.
	namePath = 256
)

// A LimitError says that an image takes more than it may: see [Bound]. It wraps
// [ErrUnsupported].
type LimitError struct {
	Bound Bound
	// What is what takes too much; Allowed is the bound's value.
	What    string
	Allowed int64
}

func (e *LimitError) Error() string {
	unit := "bytes"
	if e.Bound == BoundNames {
		unit = "names"
	}
	return fmt.Sprintf("%s: over the bound of %d %s", e.What, e.Allowed, unit)
}

func (e *LimitError) Unwrap() error { return ErrUnsupported }

// A Budget is how much may be taken of something, and how much is. It is safe for
// concurrent use. The nil budget has no end.
type Budget struct {
	bound   Bound
	allowed int64
	taken   atomic.Int64
}

// NewBudget returns the budget of a bound. Allowed is in bytes.
func NewBudget(bound Bound, allowed int64) *Budget { return &Budget{bound: bound, allowed: allowed} }

// Allowed is how much may be taken; of the nil budget anything.
func (b *Budget) Allowed() int64 {
	if b == nil {
		return math.MaxInt64
	}
	return b.allowed
}

// Take takes n bytes for what, or none and returns a [*LimitError].
func (b *Budget) Take(what string, n uint64) error {
	if b == nil {
		return nil
	}
	for {
		taken := b.taken.Load()
		if n > math.MaxInt64 || int64(n) > b.allowed-taken {
			return &LimitError{Bound: b.bound, What: what, Allowed: b.allowed}
		}
		if b.taken.CompareAndSwap(taken, taken+int64(n)) {
			return nil
		}
	}
}

// Return gives n bytes back.
func (b *Budget) Return(n uint64) {
	if b != nil {
		b.taken.Add(-int64(n))
	}
}
