package rafs_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// TestSecretIsNotPrinted: the key of an encrypted blob is there for whoever asks,
// and in no text.
func TestSecretIsNotPrinted(t *testing.T) {
	blobs := openSample(t, "nm-sn-enc/bootstrap").Blobs()
	require.NotEmpty(t, blobs)
	for _, b := range blobs {
		assert.Equal(t, rafs.CipherAES128XTS, b.Cipher)
		key, iv := b.Secret.Reveal()
		assert.NotZero(t, key)
		assert.NotZero(t, iv)
		assert.Zero(t, b.MetaDigest, "these bytes are the key")
		assert.Zero(t, b.MetaSize, "these bytes are a part of the initialization vector")
		raw, err := json.Marshal(b)
		require.NoError(t, err)
		texts := []string{string(raw)}
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
			texts = append(texts, fmt.Sprintf(verb, b), fmt.Sprintf(verb, &b), fmt.Sprintf(verb, b.Secret))
		}
		for _, text := range texts {
			for _, secret := range [][]byte{key[:], iv[:]} {
				for _, verb := range []string{"%s", "%x", "%X", "%v", "%q"} {
					part := fmt.Sprintf(verb, secret[:8])
					assert.NotContains(t, text, part[1:len(part)-1])
				}
			}
		}
	}
	for _, b := range openSample(t, "nm-sn-batch/bootstrap").Blobs() {
		key, _ := b.Secret.Reveal()
		assert.Zero(t, key)
		assert.Equal(t, rafs.CipherNone, b.Cipher)
	}
}
