package blob

import (
	"cmp"
	"slices"
)

const (
	// smallGap is how many unwanted bytes between two wanted chunks are always
	// fetched along: naming another range costs as much.
	smallGap = 512
	// requestGap takes its place where each range needs a request: 100 Mbit/s carry
	// 250 kB in a round trip of 20 ms, which several requests share.
	requestGap = 32 << 10
	// largeGap is the most that is fetched along there of what is not small.
	largeGap = 128 << 10
	// gapShare bounds that in sum, as a part of the wanted bytes.
	gapShare = 1. / 16
	// maxSpan bounds a span, and with it what a broken connection costs.
	maxSpan = 2 << 20
	// maxOverlap bounds a span of overlapping units, as slices of a gzip stream are:
	// where it is cut, bytes are fetched twice.
	maxOverlap = 4 * maxSpan
	// fullRequest is how many bytes make a request of several ranges large
	// enough: the next one is then under way beside it.
	fullRequest = 512 << 10
	// maxRanges bounds the ranges of one request: servers limit the length of a
	// header and some the number of ranges.
	maxRanges = 32
)

// A span is a range of a blob that is fetched for the chunks in it.
type span struct {
	off, end int64
	entries  []*entry // by offset
}

func (s *span) size() int64 { return s.end - s.off }

// plan merges the chunks of one blob into few spans. It sorts entries. several
// says that a request can name several ranges.
func plan(entries []*entry, several bool) []span {
	slices.SortFunc(entries, func(a, b *entry) int { return cmp.Compare(a.off, b.off) })
	gap := int64(smallGap)
	if !several {
		gap = bridged(entries)
	}
	var spans []span
	for _, e := range entries {
		end := e.off + int64(e.stored)
		if n := len(spans); n > 0 {
			last := &spans[n-1]
			limit := int64(maxSpan)
			if e.off < last.end {
				limit = maxOverlap
			}
			if e.off <= last.end+gap && end-last.off <= limit {
				last.end = max(last.end, end)
				last.entries = append(last.entries, e)
				continue
			}
		}
		spans = append(spans, span{off: e.off, end: end, entries: []*entry{e}})
	}
	return spans
}

// bridged returns the longest gap, in bytes, that is fetched along where each range
// needs a request: beside small ones the smallest, as long as these are in sum no
// more than gapShare of what is wanted.
func bridged(entries []*entry) int64 {
	var gaps []int64
	var wanted, end int64
	for n, e := range entries {
		if gap := e.off - end; n > 0 && gap > requestGap && gap <= largeGap {
			gaps = append(gaps, gap)
		}
		wanted += int64(e.stored)
		end = max(end, e.off+int64(e.stored))
	}
	slices.Sort(gaps)
	longest, left := int64(requestGap), int64(float64(wanted)*gapShare)
	for _, gap := range gaps {
		if left -= gap; left < 0 {
			break
		}
		longest = gap
	}
	return longest
}

// requests groups the spans of one blob into requests. Where a request can name
// several ranges, small spans share one.
func requests(spans []span, several bool) [][]span {
	var all [][]span
	var size int64 // of the last, zero if it takes no more
	for _, s := range spans {
		if n := len(all); size > 0 && size+s.size() <= fullRequest && len(all[n-1]) < maxRanges {
			all[n-1] = append(all[n-1], s)
			size += s.size()
			continue
		}
		all = append(all, []span{s})
		if size = 0; several {
			size = s.size()
		}
	}
	return all
}
