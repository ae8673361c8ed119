package nydusimage

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// DiffID computes the SHA-256 of the bootstrap layer's uncompressed archive,
// which the image's config should list as its last diff ID.
func (b *Bootstrap) DiffID() (v1.Hash, error) {
	archive, err := uncompressed(b.layer)
	if err != nil {
		return v1.Hash{}, err
	}
	defer archive.Close()
	h := sha256.New()
	size, err := io.Copy(h, io.LimitReader(archive, b.allowed+1))
	switch {
	case err != nil:
		return v1.Hash{}, fmt.Errorf("uncompress the bootstrap layer: %w: %w", rafs.ErrCorrupt, err)
	case size > b.allowed:
		return v1.Hash{}, errUnpacked(b.allowed)
	}
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(h.Sum(nil))}, nil
}
