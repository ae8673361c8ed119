package blob

import "slices"

const (
	// maxGap is how many unwanted bytes between two wanted chunks are fetched
	// along rather than paying for another request: what 100 Mbit/s carries in
	// some 3 ms, less than a round trip to a remote registry.
	maxGap = 32 << 10
	// maxSpan bounds one request, and with it the memory of one buffer and what
	// a broken connection costs.
	maxSpan = 8 << 20
)

// A span is a range of a blob that one request fetches for the chunks in it.
type span struct {
	off, end int64
	entries  []*entry // by offset
}

// plan merges the chunks of one blob into few spans. It sorts entries.
func plan(entries []*entry) []span {
	slices.SortFunc(entries, func(a, b *entry) int {
		return int(min(max(a.off-b.off, -1), 1))
	})
	var spans []span
	for _, e := range entries {
		end := e.off + int64(e.stored)
		if n := len(spans); n > 0 {
			last := &spans[n-1]
			if e.off <= last.end+maxGap && end-last.off <= maxSpan {
				last.end = max(last.end, end)
				last.entries = append(last.entries, e)
				continue
			}
		}
		spans = append(spans, span{off: e.off, end: end, entries: []*entry{e}})
	}
	return spans
}
