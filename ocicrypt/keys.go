package ocicrypt

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/go-jose/go-jose/v4"
)

// maxKeyFile bounds a file with keys or a password, in bytes: key rings can be
// long.
const maxKeyFile = 16 << 20

// Keys are the private keys of a recipient, and the certificates that tell which
// of them PKCS #7 messages are for.
type Keys struct {
	private      []any // *rsa.PrivateKey, *ecdsa.PrivateKey, *jose.JSONWebKey, …
	certificates []*x509.Certificate
	openPGP      openpgp.EntityList // decrypted
}

func (k *Keys) empty() bool { return k == nil || len(k.private)+len(k.openPGP) == 0 }

// ReadKeys reads the files that the arguments name, spelled as skopeo's
// --decryption-key and ctr's --key are: the path, and behind a colon the password
// for it as "pass=…", "file=" and a path, "fd=" and the number of an open file, or
// as it is.
//
// A file holds private keys, in DER, PEM or as a JWK, an OpenPGP key ring, or a
// certificate, which PKCS #7 needs beside the key.
func ReadKeys(arguments []string) (*Keys, error) {
	k := &Keys{}
	for _, argument := range arguments {
		// The password stays out of the error.
		path, secret, protected := splitArgument(argument)
		if path == "provider" {
			return nil, fmt.Errorf("decryption key %q: %w: no key provider is asked", argument, ErrUnsupported)
		}
		if err := k.readFile(path, secret, protected); err != nil {
			return nil, fmt.Errorf("decryption key %s: %w", path, err)
		}
	}
	return k, nil
}

// splitArgument cuts the path from the password. A drive letter's colon is part of
// the path.
func splitArgument(argument string) (path, secret string, protected bool) {
	volume := filepath.VolumeName(argument)
	path, secret, protected = strings.Cut(argument[len(volume):], ":")
	return volume + path, secret, protected
}

func (k *Keys) readFile(path, secret string, protected bool) error {
	var password []byte
	if protected {
		var err error
		if password, err = readPassword(secret); err != nil {
			return fmt.Errorf("read its password: %w", err)
		}
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	data, err := readBounded(file)
	if err != nil {
		return err
	}
	return k.add(data, password)
}

// readPassword reads a password as ocicrypt spells where it is
// (helpers/parse_helpers.go).
func readPassword(secret string) ([]byte, error) {
	kind, value, ok := strings.Cut(secret, "=")
	switch {
	case ok && kind == "pass":
		return []byte(value), nil
	case ok && kind == "file":
		file, err := os.Open(value)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		return readBounded(file)
	case ok && kind == "fd":
		number, err := strconv.ParseUint(value, 10, 31)
		if err != nil {
			return nil, errors.New("fd= is followed by no number of an open file")
		}
		file := os.NewFile(uintptr(number), "password")
		defer file.Close()
		return readBounded(file)
	}
	return []byte(secret), nil
}

func readBounded(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxKeyFile+1))
	if err == nil && len(data) > maxKeyFile {
		err = fmt.Errorf("it has more than %d bytes", maxKeyFile)
	}
	return data, err
}

// add takes a file's keys and certificates.
func (k *Keys) add(data, password []byte) error {
	if block, rest := pem.Decode(data); block != nil && !strings.HasPrefix(block.Type, "PGP ") {
		for ; block != nil; block, rest = pem.Decode(rest) {
			if err := k.addPEM(block, password); err != nil {
				return fmt.Errorf("%s: %w", block.Type, err)
			}
		}
		return nil
	}
	if k.addDER(data) {
		return nil
	}
	var key jose.JSONWebKey
	if err := key.UnmarshalJSON(data); err == nil {
		if key.IsPublic() {
			return errors.New("it is a public key")
		}
		k.private = append(k.private, &key)
		return nil
	}
	return k.addOpenPGP(data, password)
}

func (k *Keys) addPEM(block *pem.Block, password []byte) error {
	der := block.Bytes
	//nolint:staticcheck // weak, and what ocicrypt reads: these are the user's own keys
	if x509.IsEncryptedPEMBlock(block) {
		if password == nil {
			return errors.New("it needs a password")
		}
		var err error
		if der, err = x509.DecryptPEMBlock(block, password); err != nil {
			return fmt.Errorf("decrypt it: %w", err)
		}
	}
	switch {
	case k.addDER(der):
		return nil
	case block.Type == "ENCRYPTED PRIVATE KEY":
		return errors.New("keys in encrypted PKCS #8 are not read; openssl rsa -aes256 -traditional writes one that is")
	case strings.HasSuffix(block.Type, "PARAMETERS"):
		return nil // openssl writes the curve before the key
	}
	return errors.New("it is neither a private key nor a certificate")
}

// addDER takes a private key or a certificate, and says whether it is one.
func (k *Keys) addDER(der []byte) bool {
	if key, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		k.private = append(k.private, key)
		return true
	}
	if key, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		k.private = append(k.private, key)
		return true
	}
	if key, err := x509.ParseECPrivateKey(der); err == nil {
		k.private = append(k.private, key)
		return true
	}
	certificate, err := x509.ParseCertificate(der)
	if err == nil {
		k.certificates = append(k.certificates, certificate)
	}
	return err == nil
}

// addOpenPGP takes a key ring, armored or not. A password opens the keys that it is
// for, which must be one at least.
func (k *Keys) addOpenPGP(data, password []byte) error {
	ring, err := openpgp.ReadKeyRing(bytes.NewReader(data))
	if err != nil {
		if ring, err = openpgp.ReadArmoredKeyRing(bytes.NewReader(data)); err != nil {
			return errors.New("it holds no private key, certificate or OpenPGP key ring")
		}
	}
	opened, locked := 0, 0
	for _, entity := range ring {
		if entity.PrivateKey == nil {
			continue
		}
		if entity.PrivateKey.Encrypted && entity.DecryptPrivateKeys(password) != nil {
			locked++
			continue
		}
		opened++
		k.openPGP = append(k.openPGP, entity)
	}
	switch {
	case opened > 0:
		return nil
	case locked > 0 && password == nil:
		return errors.New("it needs a password")
	case locked > 0:
		return errors.New("its password is another")
	}
	return errors.New("its OpenPGP key ring holds public keys only")
}
