package rafs

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestUntil(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	count := 0
	for k := range until(ctx, 10*between) {
		assert.Equal(t, count, k)
		if count++; k == between+1 {
			cancel()
		}
	}
	assert.Equal(t, 2*between, count, "it looks after a while")
	for range until(ctx, uint32(1)) {
		t.Error("it had ended before")
	}

	random := rand.New(rand.NewPCG(1, 2))
	numbers := random.Perm(1 << 16)
	steps := 0
	sortUntil(ctx, numbers, func(a, b int) int { steps++; return a - b })
	assert.Less(t, steps, between+1)
	assert.False(t, slices.IsSorted(numbers))
	sortUntil(t.Context(), numbers, func(a, b int) int { return a - b })
	assert.True(t, slices.IsSorted(numbers))
}
