package main

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/artifact"
)

// TestNydusdLine: what nydusd does not tell of is not said to come from the cache.
func TestNydusdLine(t *testing.T) {
	line := func(requests int64, fromCache bool) string {
		return nydusdLine(evidence{Scan: artifact.Evidence{NydusdRequests: requests, Slices: []artifact.SliceEvidence{{FromCache: true}, {FromCache: fromCache}}}})
	}
	assert.Contains(t, line(3, false), "nydusd read 0B in 3 requests")
	assert.Contains(t, line(0, true), "results of nydusd's reads from the cache")
	assert.Contains(t, line(0, false), "nydusd read nothing, or does not say what")
}
