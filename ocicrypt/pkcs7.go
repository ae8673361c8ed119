package ocicrypt

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
)

// The identifiers that ocicrypt's PKCS #7 messages use.
var (
	oidEnvelopedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 3}
	oidRSA           = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidAES128GCM     = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 6}
	oidAES256GCM     = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 46}
)

// The parts of a PKCS #7 message (RFC 2315, section 10).
type (
	contentInfo struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue `asn1:"explicit,tag:0"`
	}
	envelopedData struct {
		Version    int
		Recipients []recipientInfo `asn1:"set"`
		Content    encryptedContent
	}
	recipientInfo struct {
		Version int
		ID      struct {
			Issuer asn1.RawValue
			Serial *big.Int
		}
		Algorithm pkix.AlgorithmIdentifier
		Key       []byte
	}
	encryptedContent struct {
		Type      asn1.ObjectIdentifier
		Algorithm pkix.AlgorithmIdentifier
		Content   asn1.RawValue `asn1:"tag:0,optional"`
	}
	// gcmParameters lie in one more sequence, with a tag that RFC 5084 has not.
	gcmParameters struct {
		Nonce []byte `asn1:"tag:4"`
		Size  int    // of the tag, bytes
	}
)

// unwrapPKCS7 reads DER and what ocicrypt writes of the format: RSA keys and
// AES-GCM. It needs the recipient's certificate to find the key.
func (k *Keys) unwrapPKCS7(message []byte) ([]byte, error) {
	var outer contentInfo
	var data envelopedData
	_, err := asn1.Unmarshal(message, &outer)
	if err == nil && !outer.Type.Equal(oidEnvelopedData) {
		return nil, malformed("the PKCS #7 message holds no enveloped data")
	}
	if err == nil {
		_, err = asn1.Unmarshal(outer.Content.Bytes, &data)
	}
	if err != nil {
		return nil, malformed("read the PKCS #7 message: %w", err)
	}
	if k.empty() {
		return nil, ErrKey
	}
	for i := range data.Recipients {
		key, ok := k.contentKey(&data.Recipients[i])
		if ok {
			return data.Content.open(key)
		}
	}
	return nil, ErrKey
}

// contentKey decrypts a recipient's copy of the content's key; ok is false if the
// recipient has another certificate or key.
func (k *Keys) contentKey(r *recipientInfo) (key []byte, ok bool) {
	for _, c := range k.certificates {
		if r.ID.Serial == nil || !bytes.Equal(c.RawIssuer, r.ID.Issuer.FullBytes) || c.SerialNumber.Cmp(r.ID.Serial) != 0 {
			continue
		}
		for _, private := range k.private {
			private, isRSA := private.(*rsa.PrivateKey)
			if !isRSA || !private.PublicKey.Equal(c.PublicKey) || !r.Algorithm.Algorithm.Equal(oidRSA) {
				continue
			}
			key, err := private.Decrypt(rand.Reader, r.Key, &rsa.PKCS1v15DecryptOptions{})
			return key, err == nil
		}
	}
	return nil, false
}

func (c *encryptedContent) open(key []byte) ([]byte, error) {
	if id := c.Algorithm.Algorithm; !id.Equal(oidAES128GCM) && !id.Equal(oidAES256GCM) {
		return nil, malformed("the PKCS #7 message has the cipher %s, not AES-GCM", id)
	}
	var parameters gcmParameters
	if _, err := asn1.Unmarshal(c.Algorithm.Parameters.Bytes, &parameters); err != nil {
		return nil, malformed("read the PKCS #7 message's cipher: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, malformed("the PKCS #7 message's key: %w", err)
	}
	sealed, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	if len(parameters.Nonce) != sealed.NonceSize() || parameters.Size != sealed.Overhead() {
		return nil, malformed("the PKCS #7 message has a nonce of %d bytes and a tag of %d", len(parameters.Nonce), parameters.Size)
	}
	text, err := octets(c.Content)
	if err != nil {
		return nil, malformed("read the PKCS #7 message's content: %w", err)
	}
	plain, err := sealed.Open(nil, parameters.Nonce, text, nil)
	if err != nil {
		return nil, malformed("decrypt the PKCS #7 message: %w", err)
	}
	return plain, nil
}

// octets returns the bytes of a string that may have been cut into several.
func octets(v asn1.RawValue) ([]byte, error) {
	if !v.IsCompound {
		return v.Bytes, nil
	}
	var all []byte
	for rest := v.Bytes; len(rest) > 0; {
		var part []byte
		var err error
		if rest, err = asn1.Unmarshal(rest, &part); err != nil {
			return nil, err
		}
		all = append(all, part...)
	}
	return all, nil
}
