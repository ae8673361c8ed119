package ocicrypt_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	oracle "github.com/containers/ocicrypt"
	"github.com/containers/ocicrypt/config"
	"github.com/go-jose/go-jose/v4"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/ocicrypt"
)

// layer is what is encrypted: more than one of ocicrypt's buffers.
var layer = bytes.Repeat([]byte("a bootstrap layer. "), 3000)

// encrypt encrypts as converters do, through ocicrypt itself.
func encrypt(t *testing.T, recipients ...config.CryptoConfig) (encrypted []byte, annotations map[string]string) {
	t.Helper()
	cc := config.CombineCryptoConfigs(recipients)
	r, finish, err := oracle.EncryptLayer(cc.EncryptConfig, bytes.NewReader(layer), ocispec.Descriptor{Digest: digest.FromBytes(layer)})
	require.NoError(t, err)
	encrypted, err = io.ReadAll(r)
	require.NoError(t, err)
	annotations, err = finish()
	require.NoError(t, err)
	return encrypted, annotations
}

func decrypt(keys *ocicrypt.Keys, encrypted []byte, annotations map[string]string) ([]byte, error) {
	key, err := keys.Unwrap(annotations)
	if err != nil {
		return nil, err
	}
	return key.Decrypt(encrypted)
}

// A recipient is an encrypter's configuration, and the keys that undo it as they
// lie in files.
type recipient struct {
	config config.CryptoConfig
	files  map[string][]byte
	args   []string // {} is the folder
}

func rsaKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	return key
}

func ecKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return key
}

func pkcs8(t *testing.T, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	return der
}

func asPEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func jwe(t *testing.T, public crypto.PublicKey) config.CryptoConfig {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	require.NoError(t, err)
	cc, err := config.EncryptWithJwe([][]byte{asPEM("PUBLIC KEY", der)})
	require.NoError(t, err)
	return cc
}

func certificate(t *testing.T, key *rsa.PrivateKey) []byte {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: "recipient"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	return asPEM("CERTIFICATE", der)
}

func pkcs7(t *testing.T, certificates ...[]byte) config.CryptoConfig {
	t.Helper()
	cc, err := config.EncryptWithPkcs7(certificates)
	require.NoError(t, err)
	return cc
}

// pgpKey returns a configuration that encrypts for a new key, and the key in a ring.
func pgpKey(t *testing.T, password string, armored bool) (config.CryptoConfig, []byte) {
	t.Helper()
	entity, err := openpgp.NewEntity("Test", "", "test@example.com", &packet.Config{RSABits: 2048, DefaultCompressionAlgo: packet.CompressionZLIB})
	require.NoError(t, err)
	var public, private bytes.Buffer
	require.NoError(t, entity.Serialize(&public))
	cc, err := config.EncryptWithGpg([][]byte{[]byte("test@example.com")}, public.Bytes())
	require.NoError(t, err)
	if password != "" {
		require.NoError(t, entity.EncryptPrivateKeys([]byte(password), nil))
	}
	if armored {
		a, err := armor.Encode(&private, openpgp.PrivateKeyType, nil)
		require.NoError(t, err)
		require.NoError(t, entity.SerializePrivateWithoutSigning(a, nil))
		require.NoError(t, a.Close())
		return cc, private.Bytes()
	}
	require.NoError(t, entity.SerializePrivateWithoutSigning(&private, nil))
	return cc, private.Bytes()
}

func recipients(t *testing.T) map[string]recipient {
	key, ec := rsaKey(t), ecKey(t)
	//nolint:staticcheck // ocicrypt reads these
	locked, err := x509.EncryptPEMBlock(rand.Reader, "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key), []byte("secret"), x509.PEMCipherAES256)
	require.NoError(t, err)
	jwk, err := (&jose.JSONWebKey{Key: ec}).MarshalJSON()
	require.NoError(t, err)
	cert := certificate(t, key)
	gpg, ring := pgpKey(t, "", false)
	lockedGPG, lockedRing := pgpKey(t, "a:b", true)
	ecDER, err := x509.MarshalECPrivateKey(ec)
	require.NoError(t, err)
	return map[string]recipient{
		"JWE, RSA in DER": {jwe(t, &key.PublicKey), map[string][]byte{"key": x509.MarshalPKCS1PrivateKey(key)}, []string{"{}/key"}},
		"JWE, RSA in PEM": {jwe(t, &key.PublicKey), map[string][]byte{"key": asPEM("PRIVATE KEY", pkcs8(t, key))}, []string{"{}/key"}},
		"JWE, EC after its parameters": {jwe(t, &ec.PublicKey), map[string][]byte{
			"key": append(asPEM("EC PARAMETERS", []byte{6, 8, 42, 134, 72, 206, 61, 3, 1, 7}), asPEM("EC PRIVATE KEY", ecDER)...)}, []string{"{}/key"}},
		"JWE, JWK":               {jwe(t, &ec.PublicKey), map[string][]byte{"key": jwk}, []string{"{}/key"}},
		"a password":             {jwe(t, &key.PublicKey), map[string][]byte{"key": pem.EncodeToMemory(locked)}, []string{"{}/key:secret"}},
		"a password, said so":    {jwe(t, &key.PublicKey), map[string][]byte{"key": pem.EncodeToMemory(locked)}, []string{"{}/key:pass=secret"}},
		"a password in a file":   {jwe(t, &key.PublicKey), map[string][]byte{"key": pem.EncodeToMemory(locked), "pw": []byte("secret")}, []string{"{}/key:file={}/pw"}},
		"the second of the keys": {jwe(t, &key.PublicKey), map[string][]byte{"other": pkcs8(t, ecKey(t)), "key": pkcs8(t, key)}, []string{"{}/other", "{}/key"}},
		"PKCS #7": {pkcs7(t, certificate(t, rsaKey(t)), cert), map[string][]byte{"key": pkcs8(t, key), "cert": cert},
			[]string{"{}/key", "{}/cert"}},
		"PKCS #7 in one file":       {pkcs7(t, cert), map[string][]byte{"key": append(asPEM("PRIVATE KEY", pkcs8(t, key)), cert...)}, []string{"{}/key"}},
		"OpenPGP":                   {gpg, map[string][]byte{"ring": ring}, []string{"{}/ring"}},
		"OpenPGP with a password":   {lockedGPG, map[string][]byte{"ring": lockedRing}, []string{"{}/ring:a:b"}},
		"OpenPGP for one of two":    {config.CombineCryptoConfigs([]config.CryptoConfig{jwe(t, &ec.PublicKey), gpg}), map[string][]byte{"ring": ring}, []string{"{}/ring"}},
		"JWE for the other of both": {config.CombineCryptoConfigs([]config.CryptoConfig{jwe(t, &ec.PublicKey), gpg}), map[string][]byte{"key": jwk}, []string{"{}/key"}},
	}
}

// readKeys writes the files into a folder and reads them.
func readKeys(t *testing.T, files map[string][]byte, args ...string) (*ocicrypt.Keys, error) {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
	}
	var filled []string
	for _, a := range args {
		filled = append(filled, strings.ReplaceAll(a, "{}", dir))
	}
	return ocicrypt.ReadKeys(filled)
}

// TestDecrypt decrypts what ocicrypt encrypted.
func TestDecrypt(t *testing.T) {
	for name, r := range recipients(t) {
		t.Run(name, func(t *testing.T) {
			encrypted, annotations := encrypt(t, r.config)
			require.NotEqual(t, layer, encrypted)
			keys, err := readKeys(t, r.files, r.args...)
			require.NoError(t, err)
			got, err := decrypt(keys, encrypted, annotations)
			require.NoError(t, err)
			assert.True(t, bytes.Equal(layer, got))
		})
	}
}

// TestNoKey: without the right key there is nothing but an error that says so.
func TestNoKey(t *testing.T) {
	key := rsaKey(t)
	gpg, _ := pgpKey(t, "", false)
	all := []config.CryptoConfig{jwe(t, &key.PublicKey), pkcs7(t, certificate(t, key)), gpg}
	_, otherRing := pgpKey(t, "", false)
	other, err := readKeys(t, map[string][]byte{"rsa": pkcs8(t, rsaKey(t)), "ec": pkcs8(t, ecKey(t)), "ring": otherRing,
		"cert": certificate(t, key)}, "{}/rsa", "{}/ec", "{}/ring", "{}/cert")
	require.NoError(t, err)
	empty, err := ocicrypt.ReadKeys(nil)
	require.NoError(t, err)
	for name, c := range map[string]struct {
		keys *ocicrypt.Keys
		says string
	}{"nil": {nil, "no key was given"}, "empty": {empty, "no key was given"}, "others": {other, "for none of the keys given"}} {
		for i, cc := range all {
			encrypted, annotations := encrypt(t, cc)
			got, err := decrypt(c.keys, encrypted, annotations)
			require.ErrorIs(t, err, ocicrypt.ErrKey, "%s %d", name, i)
			assert.ErrorContains(t, err, c.says)
			assert.ErrorContains(t, err, []string{"JWE", "PKCS #7", "OpenPGP"}[i])
			assert.Nil(t, got)
		}
	}
}

// TestMalformed alters what ocicrypt wrote, one thing at a time.
func TestMalformed(t *testing.T) {
	const prefix = "org.opencontainers.image.enc."
	key := rsaKey(t)
	cert := certificate(t, key)
	_, ring := pgpKey(t, "", false)
	keys, err := readKeys(t, map[string][]byte{"key": pkcs8(t, key), "cert": cert, "ring": ring}, "{}/key", "{}/cert", "{}/ring")
	require.NoError(t, err)
	public := func(change func(map[string]any)) func(map[string]string, []byte) {
		return func(a map[string]string, _ []byte) {
			text, err := base64.StdEncoding.DecodeString(a[prefix+"pubopts"])
			require.NoError(t, err)
			var options map[string]any
			require.NoError(t, json.Unmarshal(text, &options))
			change(options)
			text, err = json.Marshal(options)
			require.NoError(t, err)
			a[prefix+"pubopts"] = base64.StdEncoding.EncodeToString(text)
		}
	}
	for name, c := range map[string]struct {
		alter func(annotations map[string]string, layer []byte)
		err   error
		says  string
	}{
		"the layer":         {func(_ map[string]string, l []byte) { l[len(l)/2] ^= 1 }, ocicrypt.ErrMalformed, "HMAC"},
		"no HMAC":           {public(func(o map[string]any) { delete(o, "hmac") }), ocicrypt.ErrMalformed, "HMAC"},
		"a short nonce":     {public(func(o map[string]any) { o["cipheroptions"] = map[string]any{"nonce": "AAAA"} }), ocicrypt.ErrMalformed, "nonce has 3 bytes"},
		"another cipher":    {public(func(o map[string]any) { o["cipher"] = "ROT13" }), ocicrypt.ErrUnsupported, `"ROT13"`},
		"no public options": {func(a map[string]string, _ []byte) { delete(a, prefix+"pubopts") }, ocicrypt.ErrMalformed, "pubopts"},
		"no key":            {func(a map[string]string, _ []byte) { clear(a) }, ocicrypt.ErrMalformed, "no annotation holds its key"},
		"a key provider": {func(a map[string]string, _ []byte) {
			clear(a)
			a[prefix+"keys.provider.attestation-agent"] = "AAAA"
		}, ocicrypt.ErrUnsupported, `the key provider "attestation-agent", which is not asked`},
		"a PKCS #11 module": {func(a map[string]string, _ []byte) { clear(a); a[prefix+"keys.pkcs11"] = "AAAA" }, ocicrypt.ErrUnsupported, "PKCS #11"},
		"no base64":         {func(a map[string]string, _ []byte) { a[prefix+"keys.jwe"] = "%" }, ocicrypt.ErrMalformed, "keys.jwe"},
		"no JWE":            {func(a map[string]string, _ []byte) { a[prefix+"keys.jwe"] = "AAAA" }, ocicrypt.ErrMalformed, "JWE"},
		"a long annotation": {func(a map[string]string, _ []byte) { a[prefix+"keys.jwe"] = strings.Repeat("A", 300<<10) }, ocicrypt.ErrMalformed, "more than 262144"},
		"no PKCS #7": {func(a map[string]string, _ []byte) { clear(a); a[prefix+"keys.pkcs7"] = "MIAwgDCAMIA=" }, ocicrypt.ErrMalformed,
			"PKCS #7"},
		"no OpenPGP": {func(a map[string]string, _ []byte) { clear(a); a[prefix+"keys.pgp"] = "AAAA" }, ocicrypt.ErrKey, "OpenPGP"},
		"a bomb": {func(a map[string]string, _ []byte) { clear(a); a[prefix+"keys.pgp"] = pgpBomb(t, ring) }, ocicrypt.ErrMalformed,
			"decrypts to more than 65536 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			encrypted, annotations := encrypt(t, jwe(t, &key.PublicKey))
			_, err := decrypt(keys, bytes.Clone(encrypted), maps.Clone(annotations))
			require.NoError(t, err, "before it is altered")
			c.alter(annotations, encrypted)
			_, err = decrypt(keys, encrypted, annotations)
			require.ErrorIs(t, err, c.err)
			assert.ErrorContains(t, err, c.says)
		})
	}
}

// pgpBomb is a short message for the ring's key that decompresses to much.
func pgpBomb(t *testing.T, ring []byte) string {
	t.Helper()
	entities, err := openpgp.ReadKeyRing(bytes.NewReader(ring))
	require.NoError(t, err)
	var message bytes.Buffer
	w, err := openpgp.Encrypt(&message, entities, nil, nil, &packet.Config{DefaultCompressionAlgo: packet.CompressionZLIB, CompressionConfig: &packet.CompressionConfig{Level: 9}})
	require.NoError(t, err)
	_, err = w.Write(make([]byte, 64<<20))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return base64.StdEncoding.EncodeToString(message.Bytes())
}

// TestNoProviderRuns: a program that ocicrypt's configuration lists is not run,
// though the image names it.
func TestNoProviderRuns(t *testing.T) {
	dir := t.TempDir()
	ran := filepath.Join(dir, "ran")
	program := filepath.Join(dir, "provider")
	require.NoError(t, os.WriteFile(program, []byte("#!/bin/sh\ntouch "+ran+"\n"), 0o700))
	settings := filepath.Join(dir, "ocicrypt.json")
	require.NoError(t, os.WriteFile(settings, []byte(`{"key-providers":{"evil":{"cmd":{"path":"`+program+`"}}}}`), 0o600))
	t.Setenv("OCICRYPT_KEYPROVIDER_CONFIG", settings)
	keys, err := readKeys(t, map[string][]byte{"key": pkcs8(t, rsaKey(t))}, "{}/key")
	require.NoError(t, err)
	_, err = keys.Unwrap(map[string]string{"org.opencontainers.image.enc.keys.provider.evil": "AAAA"})
	require.ErrorIs(t, err, ocicrypt.ErrUnsupported)
	assert.NoFileExists(t, ran)
	_, err = ocicrypt.ReadKeys([]string{"provider:evil"})
	require.ErrorIs(t, err, ocicrypt.ErrUnsupported)
	assert.NoFileExists(t, ran)
}

func TestReadKeys(t *testing.T) {
	key := rsaKey(t)
	//nolint:staticcheck // ocicrypt reads these
	locked, err := x509.EncryptPEMBlock(rand.Reader, "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key), []byte("secret"), x509.PEMCipherAES256)
	require.NoError(t, err)
	_, lockedRing := pgpKey(t, "secret", true)
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	require.NoError(t, err)
	publicJWK, err := (&jose.JSONWebKey{Key: &key.PublicKey}).MarshalJSON()
	require.NoError(t, err)
	files := map[string][]byte{"locked": pem.EncodeToMemory(locked), "ring": lockedRing, "public": asPEM("PUBLIC KEY", public), "jwk": publicJWK,
		"text": []byte("hello"), "pkcs8": asPEM("ENCRYPTED PRIVATE KEY", []byte{0x30, 0})}
	for argument, says := range map[string]string{
		"{}/none":              "no such file",
		"{}/locked":            "it needs a password",
		"{}/locked:wrong":      "decrypt it",
		"{}/locked:file={}/no": "read its password",
		"{}/locked:fd=x":       "no number of an open file",
		"{}/ring":              "it needs a password",
		"{}/ring:wrong":        "its password is another",
		"{}/public":            "neither a private key nor a certificate",
		"{}/jwk":               "it is a public key",
		"{}/text":              "it holds no private key",
		"{}/pkcs8":             "encrypted PKCS #8",
	} {
		_, err := readKeys(t, files, argument)
		require.ErrorContains(t, err, says, argument)
		assert.NotContains(t, err.Error(), "wrong", "the password is in the error")
	}
}
