package nydusimage

import (
	"errors"
	"fmt"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/ocicrypt"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// layerKey returns what decrypts a layer, nil for one that is not encrypted.
func (i *Image) layerKey(d v1.Descriptor) (*ocicrypt.LayerKey, error) {
	if !strings.HasSuffix(string(d.MediaType), ocicrypt.MediaTypeSuffix) {
		return nil, nil
	}
	key, err := i.keys.Unwrap(d.Annotations)
	if err != nil {
		return nil, encryptionError(err)
	}
	return key, nil
}

// encryptionError adds of which kind an error of package ocicrypt is here.
func encryptionError(err error) error {
	switch {
	case errors.Is(err, ocicrypt.ErrMalformed):
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	case errors.Is(err, ocicrypt.ErrUnsupported):
		return fmt.Errorf("%w: %w", rafs.ErrUnsupported, err)
	}
	return err
}
