package blob

import (
	"crypto/sha256"
	"fmt"

	"lukechampine.com/blake3"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// Sum is the digest of data by a digester: SHA-256 or BLAKE3, which others than
// SHA256 stand for.
func Sum(d rafs.Digester, data []byte) [32]byte {
	if d == rafs.SHA256 {
		return sha256.Sum256(data)
	}
	return blake3.Sum256(data)
}

// verify compares data with the digest that the metadata gives for it.
func verify(digester rafs.Digester, data []byte, want [32]byte) error {
	if digester != rafs.Blake3 && digester != rafs.SHA256 {
		return fmt.Errorf("digester %d of the blob: %w", digester, rafs.ErrUnsupported)
	}
	if got := Sum(digester, data); got != want {
		return fmt.Errorf("bytes hash to %x, the metadata says %x: %w", got, want, ErrDigest)
	}
	return nil
}
