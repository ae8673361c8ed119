package rafs_test

import (
	"crypto/sha256"
	"testing"

	"github.com/stretchr/testify/require"
	"lukechampine.com/blake3"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// digestOf gives the digests that Check asks for.
func digestOf(d rafs.Digester, data []byte) [32]byte {
	if d == rafs.SHA256 {
		return sha256.Sum256(data)
	}
	return blake3.Sum256(data)
}

// problemsOf returns what Check reports of a bootstrap, or why it does not open.
func problemsOf(b []byte) []rafs.Problem {
	tree, err := openBytes(b)
	if err != nil {
		return []rafs.Problem{{Field: "open", Got: err.Error()}}
	}
	var problems []rafs.Problem
	tree.Check(digestOf, func(p rafs.Problem) { problems = append(problems, p) })
	return problems
}

func TestCheckSamples(t *testing.T) {
	for _, sample := range samples {
		require.Empty(t, problemsOf(load(t, sample)), sample)
	}
}
