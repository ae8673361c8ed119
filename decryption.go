package main

import (
	"github.com/aquasecurity/trivy/pkg/flag"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/ocicrypt"
)

// newDecryptionKeyFlag makes the flag with the name and the spelling that skopeo,
// buildah and podman have.
func newDecryptionKeyFlag() *flag.Flag[[]string] {
	return &flag.Flag[[]string]{
		Name: "decryption-key", ConfigName: "nydus.decryption-key",
		Usage: "file with a private key or a certificate for an encrypted image; a password for it follows as :file=PATH or :pass=PASSWORD",
	}
}

func readDecryptionKeys(f *flag.Flag[[]string]) (*ocicrypt.Keys, error) {
	keys, err := ocicrypt.ReadKeys(f.Value())
	if err != nil {
		return nil, usage("--decryption-key: %w", err)
	}
	return keys, nil
}
