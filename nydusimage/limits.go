package nydusimage

import (
	"cmp"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// DefaultTemp is what temporary files may take, in bytes: some of the largest
// layers that are known, and room on most disks.
const DefaultTemp int64 = 16_000_000_000

// Limits are the bounds that a user may raise (see [rafs.Bound]). What is zero has
// its default.
type Limits struct {
	// Metadata is how many bytes the bootstrap layer may take, unpacked, and how
	// many all that is read of the blobs' tails together.
	Metadata int64
	// Names is how many names a tree may have, and all trees of layers together.
	Names int64
	// Temp is what temporary files take on disk; nil is a budget of its own.
	Temp *rafs.Budget
}

// WithDefaults returns the limits with defaults in place of zeros.
func (l Limits) WithDefaults() Limits {
	l.Metadata = cmp.Or(l.Metadata, rafs.DefaultMetadata)
	l.Names = cmp.Or(l.Names, rafs.DefaultNames)
	if l.Temp == nil {
		l.Temp = rafs.NewBudget(rafs.BoundTemp, DefaultTemp)
	}
	return l
}

// Limits are the bounds that the image was opened with.
func (i *Image) Limits() Limits { return i.limits.WithDefaults() }

// MetadataBudget returns what may be taken of memory for the image's metadata.
func (i *Image) MetadataBudget() *rafs.Budget {
	return rafs.NewBudget(rafs.BoundMetadata, i.Limits().Metadata)
}

// Origin names where the image's blobs are read: a registry, which compares what is
// pushed to any of its repositories with its digest, or a path. What is not verified
// by a digest is worth no more than its origin.
func (i *Image) Origin() string { return i.store.origin() }
