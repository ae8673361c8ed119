package main

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/blob"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// TestOnlyScansMissAReport: the other commands have none that there could not be.
func TestOnlyScansMissAReport(t *testing.T) {
	for _, err := range []error{blob.ErrDigest, rafs.ErrCorrupt, &rafs.LimitError{Bound: rafs.BoundTemp, What: "it", Allowed: 1}} {
		want := hint(err)
		assert.Contains(t, want, "; there is no report")
		for _, of := range []error{checkError{err}, mountError{err}, inspectError{err}} {
			assert.Equal(t, want, hint(of)+"; there is no report", "%T", of)
		}
	}
}
