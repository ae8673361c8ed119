package blob

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestPlan holds plan and requests to what they promise, on chunks anywhere.
func TestPlan(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for round := range 500 {
		entries := make([]*entry, random.IntN(40))
		reach := []int64{1 << 10, 1 << 18, 1 << 26}[round%3]
		for i := range entries {
			entries[i] = &entry{key: key{off: random.Int64N(reach), stored: uint32(random.IntN(maxSpan / 2))}}
			if round%2 == 0 {
				entries[i].stored %= 2000
			}
		}
		many := round%4 < 2
		spans := plan(slices.Clone(entries), many)
		var in []*entry
		var wanted, along int64
		for i, s := range spans {
			assert.NotEmpty(t, s.entries)
			end, limit := s.off, int64(maxSpan)
			for _, e := range s.entries {
				if e.off < end {
					limit = maxOverlap
				}
				assert.True(t, s.off <= e.off && e.off+int64(e.stored) <= s.end, "chunk %d+%d is outside its span %d-%d", e.off, e.stored, s.off, s.end)
				if gap := e.off - end; gap > smallGap {
					assert.False(t, many, "a gap of %d bytes is in a span", gap)
					assert.LessOrEqual(t, gap, int64(largeGap))
					if gap > requestGap {
						along += gap
					}
				}
				end = max(end, e.off+int64(e.stored))
				wanted += int64(e.stored)
			}
			assert.Equal(t, [2]int64{s.entries[0].off, end}, [2]int64{s.off, s.end}, "a span is as long as its chunks")
			assert.True(t, s.size() <= limit || len(s.entries) == 1, "span of %d bytes", s.size())
			if i > 0 {
				assert.GreaterOrEqual(t, s.off, spans[i-1].off)
			}
			in = append(in, s.entries...)
		}
		assert.ElementsMatch(t, entries, in, "each chunk is in one span")
		assert.LessOrEqual(t, float64(along), float64(wanted)*gapShare, "what is fetched along")
		var grouped []span
		for _, r := range requests(spans, many) {
			var size int64
			for _, s := range r {
				size += s.size()
			}
			assert.True(t, len(r) == 1 || many && len(r) <= maxRanges && size <= fullRequest, "request of %d ranges, %d bytes", len(r), size)
			grouped = append(grouped, r...)
		}
		assert.Equal(t, spans, grouped, "each span is in one request, in order")
		require.False(t, t.Failed(), "round %d", round)
	}
}

// Chunks that are stored apart are fetched apart and never twice: the spans of
// chunks that do not overlap do not overlap.
func TestPlanOfABlob(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for _, many := range []bool{true, false} {
		var entries []*entry
		var off int64
		for range 2000 {
			off += random.Int64N(largeGap * 2)
			stored := uint32(random.IntN(1 << 20))
			entries = append(entries, &entry{key: key{off: off, stored: stored}})
			off += int64(stored)
		}
		random.Shuffle(len(entries), func(i, j int) { entries[i], entries[j] = entries[j], entries[i] })
		var end int64
		for _, s := range plan(entries, many) {
			assert.GreaterOrEqual(t, s.off, end)
			end = s.end
		}
		assert.Equal(t, off, end)
	}
}

// Where each range is a request of its own, the smallest gaps are bridged first,
// as far as that costs little.
func TestPlanBridgesSmallGapsFirst(t *testing.T) {
	at := func(off int64, stored uint32) *entry { return &entry{key: key{off: off, stored: stored}} }
	entries := []*entry{at(0, 1<<20), at(1<<20+40<<10, 1000), at(1<<20+140<<10, 1000), at(1<<20+150<<10, 1000)}
	assert.Len(t, plan(slices.Clone(entries), false), 2, "40 KB fit into 64 KB, 99 KB do not, 9 KB always do")
	assert.Len(t, plan(slices.Clone(entries), true), 4)
}
