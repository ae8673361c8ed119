package rafs_test

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// prefetchFields are where the superblocks locate the prefetch table: an offset of
// 64 bits, and a count (v5) or a size in bytes (v6) of 32.
var prefetchFields = map[string]struct{ offset, count, unit int }{
	"tree-v5/bootstrap": {40, 60, 1},
	"tree-v6/bootstrap": {1152 + 40, 1152 + 48, 4},
}

// TestPrefetch reads tables that are put behind a bootstrap.
func TestPrefetch(t *testing.T) {
	for sample, at := range prefetchFields {
		b := load(t, sample)
		le := binary.LittleEndian
		place := func(offset, entries uint64) (*rafs.Tree, error) {
			le.PutUint64(b[at.offset:], offset)
			le.PutUint32(b[at.count:], uint32(entries)*uint32(at.unit))
			return openBytes(b)
		}
		end := uint64(len(b))
		b = append(b, 7, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0)
		tree, err := place(end, 3)
		require.NoError(t, err)
		numbers, err := tree.Prefetch()
		require.NoError(t, err)
		assert.Equal(t, []uint64{7, 9}, numbers, "0 is padding")

		tree, err = place(0, 0)
		require.NoError(t, err)
		numbers, err = tree.Prefetch()
		require.NoError(t, err)
		assert.Empty(t, numbers)

		for _, wrong := range [][2]uint64{{end, 4}, {1 << 63, 1}, {^uint64(0), 1}} {
			tree, err := place(wrong[0], wrong[1])
			require.NoError(t, err, "it is read only when it is asked for")
			_, err = tree.Prefetch()
			assert.ErrorIs(t, err, rafs.ErrCorrupt, "%s: %d entries at %#x", sample, wrong[1], wrong[0])
		}
		b = append(b, make([]byte, 5<<20)...)
		tree, err = place(end, 1<<20+1)
		require.NoError(t, err)
		_, err = tree.Prefetch()
		assert.ErrorIs(t, err, rafs.ErrUnsupported)
	}
}
