package rafs

import (
	"context"
	"iter"
	"slices"
)

// between is how many steps over tables are taken between looks at a context: some
// 100 µs.
const between = 1024

// until yields 0 to n-1, until ctx ends. A table may have millions of entries: what
// goes over one without it would go on for a minute after --timeout.
func until[N int | uint32](ctx context.Context, n N) iter.Seq[N] {
	return func(yield func(N) bool) {
		for k := N(0); k < n; k++ {
			if k%between == 0 && ctx.Err() != nil || !yield(k) {
				return
			}
		}
	}
}

// sortUntil is [slices.SortFunc] until ctx ends: from then on the order is any.
func sortUntil[E any](ctx context.Context, s []E, compare func(a, b E) int) {
	steps, ended := 0, false
	slices.SortFunc(s, func(a, b E) int {
		if steps++; steps%between == 0 && !ended {
			ended = ctx.Err() != nil
		}
		if ended {
			return 0
		}
		return compare(a, b)
	})
}
