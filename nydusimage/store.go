package nydusimage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/blob"
)

// A store is where an image lies: a repository or an OCI layout.
type store interface {
	// child reads a manifest that an index lists; its digest is checked.
	child(ctx context.Context, d v1.Descriptor) (*document, error)
	// blob gives the bytes of a layer or config.
	blob(d v1.Descriptor) (blob.Source, error)
	// origin names the store.
	origin() string
}

// A document is an index or a manifest as stored; its bytes match the digest.
type document struct {
	v1.Descriptor
	raw []byte
}

// Bounds on what is read whole into memory before it is looked at.
const (
	maxManifest = 16 << 20 // an index of some 10,000 manifests
	maxConfig   = 16 << 20 // configs hold the image's history and labels
)

// readBlob reads a whole blob, at most limit bytes, and checks its digest.
func readBlob(ctx context.Context, where store, d v1.Descriptor, limit int64) ([]byte, error) {
	if d.Size < 0 || d.Size > limit {
		return nil, fmt.Errorf("blob %s of %d bytes is over the limit of %d: %w", d.Digest, d.Size, limit, ErrInvalid)
	}
	source, err := where.blob(d)
	if err != nil {
		return nil, err
	}
	if c, ok := source.(io.Closer); ok {
		defer c.Close()
	}
	data := make([]byte, d.Size)
	if err := source.ReadRange(ctx, data, 0); err != nil {
		return nil, fmt.Errorf("blob %s: %w", d.Digest, err)
	}
	return data, checkDigest(data, d.Digest)
}

func checkDigest(data []byte, want v1.Hash) error {
	if want.Algorithm != "sha256" {
		return fmt.Errorf("digest %s: only sha256 is read: %w", want, ErrInvalid)
	}
	sum := sha256.Sum256(data)
	wanted, err := hex.DecodeString(want.Hex)
	if err != nil || !bytes.Equal(sum[:], wanted) {
		return fmt.Errorf("%d bytes hash to sha256:%x, not %s: %w", len(data), sum, want, blob.ErrDigest)
	}
	return nil
}
