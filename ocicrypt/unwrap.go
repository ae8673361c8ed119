package ocicrypt

import (
	"bytes"
	"io"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/go-jose/go-jose/v4"
)

// maxUnwrapped bounds what a message decrypts to, in bytes: a key and few options.
// OpenPGP messages may be compressed.
const maxUnwrapped = 64 << 10

// The algorithms that ocicrypt uses or accepts (keywrap/jwe): none of them derives
// a key from a password, at a cost that the image would choose.
var (
	jweKeyAlgorithms = []jose.KeyAlgorithm{jose.RSA_OAEP, jose.RSA_OAEP_256,
		jose.ECDH_ES_A128KW, jose.ECDH_ES_A192KW, jose.ECDH_ES_A256KW}
	jweContentAlgorithms = []jose.ContentEncryption{jose.A128CBC_HS256, jose.A192CBC_HS384, jose.A256CBC_HS512,
		jose.A128GCM, jose.A192GCM, jose.A256GCM}
)

// unwrapJWE returns ErrKey, as the others do, for a message that was encrypted for
// none of the keys.
func (k *Keys) unwrapJWE(message []byte) ([]byte, error) {
	encrypted, err := jose.ParseEncrypted(string(message), jweKeyAlgorithms, jweContentAlgorithms)
	if err != nil {
		return nil, malformed("read the JWE message: %w", err)
	}
	if k.empty() {
		return nil, ErrKey
	}
	for _, key := range k.private {
		if _, _, plain, err := encrypted.DecryptMulti(key); err == nil {
			return plain, nil
		}
	}
	return nil, ErrKey
}

func (k *Keys) unwrapPGP(message []byte) ([]byte, error) {
	if k.empty() || len(k.openPGP) == 0 {
		return nil, ErrKey
	}
	// There is no prompt: the keys are decrypted, and a message that a password
	// opens could make its derivation as dear as it likes.
	details, err := openpgp.ReadMessage(bytes.NewReader(message), k.openPGP, nil, nil)
	if err != nil {
		return nil, ErrKey
	}
	plain, err := io.ReadAll(io.LimitReader(details.UnverifiedBody, maxUnwrapped+1))
	switch {
	case err != nil:
		return nil, malformed("decrypt the OpenPGP message: %w", err)
	case len(plain) > maxUnwrapped:
		return nil, malformed("the OpenPGP message decrypts to more than %d bytes", maxUnwrapped)
	}
	return plain, nil
}
