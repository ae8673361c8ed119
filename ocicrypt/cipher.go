package ocicrypt

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// cipherAES256CTR is the only cipher that ocicrypt has.
const cipherAES256CTR = "AES_256_CTR_HMAC_SHA256"

// optionNonce is the initial counter block, among the cipher's options.
const optionNonce = "nonce"

// privateOptions are what is wrapped (PrivateLayerBlockCipherOptions in ocicrypt's
// blockcipher/blockcipher.go).
type privateOptions struct {
	Key     []byte            `json:"symkey"`
	Digest  string            `json:"digest"` // of the layer before it was encrypted
	Options map[string][]byte `json:"cipheroptions"`
}

// publicOptions are what an annotation holds in the clear
// (PublicLayerBlockCipherOptions).
type publicOptions struct {
	Cipher  string            `json:"cipher"`
	HMAC    []byte            `json:"hmac"` // of the encrypted layer
	Options map[string][]byte `json:"cipheroptions"`
}

// Decrypt authenticates a layer and returns it decrypted; the layer stays as it is. The
// error wraps [ErrMalformed] or [ErrUnsupported].
func (l *LayerKey) Decrypt(layer []byte) ([]byte, error) {
	if l.public.Cipher != cipherAES256CTR {
		return nil, fmt.Errorf("%w: cipher %q", ErrUnsupported, l.public.Cipher)
	}
	const keySize = 32
	if len(l.private.Key) != keySize {
		return nil, malformed("its key has %d bytes, not %d", len(l.private.Key), keySize)
	}
	nonce, ok := l.public.Options[optionNonce]
	if !ok {
		nonce = l.private.Options[optionNonce]
	}
	if len(nonce) != aes.BlockSize {
		return nil, malformed("its nonce has %d bytes, not %d", len(nonce), aes.BlockSize)
	}
	mac := hmac.New(sha256.New, l.private.Key)
	mac.Write(layer)
	if !hmac.Equal(mac.Sum(nil), l.public.HMAC) {
		return nil, malformed("its %d bytes do not match their HMAC", len(layer))
	}
	block, err := aes.NewCipher(l.private.Key)
	if err != nil {
		return nil, err
	}
	plain := make([]byte, len(layer))
	cipher.NewCTR(block, nonce).XORKeyStream(plain, layer)
	if err := checkDigest(plain, l.private.Digest); err != nil {
		return nil, err
	}
	return plain, nil
}

// checkDigest compares a decrypted layer with the digest that the encrypter noted;
// it need not have.
func checkDigest(layer []byte, digest string) error {
	want, ok := strings.CutPrefix(digest, "sha256:")
	switch sum := sha256.Sum256(layer); {
	case digest == "":
		return nil
	case !ok:
		return fmt.Errorf("%w: digest %q", ErrUnsupported, digest)
	case hex.EncodeToString(sum[:]) != want:
		return malformed("what it decrypts to hashes to sha256:%x, not %s", sum, digest)
	}
	return nil
}
