package blob

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"fmt"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// A decrypter knows one cipher, with its key.
type decrypter interface {
	// decrypt returns what stored, one chunk, batch or table as it lies in a
	// blob, stands for. stored is left as it is.
	decrypt(stored []byte) ([]byte, error)
}

// newDecrypter returns the decrypter of a blob, nil if it is not encrypted.
func newDecrypter(b rafs.Blob) (decrypter, error) {
	switch b.Cipher {
	case rafs.CipherNone:
		return nil, nil
	case rafs.CipherAES128XTS:
		key, iv := b.Secret.Reveal()
		return newXTS(key, iv)
	}
	return nil, fmt.Errorf("cipher %d of blob %s: %w", b.Cipher, b.ID, rafs.ErrUnsupported)
}

// xts is AES-128 in XTS mode (IEEE P1619) as Nydus uses it (utils/src/crypt.rs
// there): one data unit for each chunk, all with the same initialization
// vector, and ciphertext stealing at its end.
type xts struct {
	data, tweak cipher.Block
	iv          [aes.BlockSize]byte
}

// newXTS splits the key into that of the data and that of the tweak.
func newXTS(key [32]byte, iv [16]byte) (*xts, error) {
	data, err := aes.NewCipher(key[:16])
	if err != nil {
		return nil, err
	}
	tweak, err := aes.NewCipher(key[16:])
	if err != nil {
		return nil, err
	}
	return &xts{data, tweak, iv}, nil
}

func (x *xts) decrypt(stored []byte) ([]byte, error) {
	const size = aes.BlockSize
	if len(stored) < size {
		return nil, fmt.Errorf("%d encrypted bytes are less than a block: %w", len(stored), rafs.ErrCorrupt)
	}
	plain := make([]byte, len(stored))
	var tweak [size]byte
	x.tweak.Encrypt(tweak[:], x.iv[:])
	whole, rest := len(stored)/size, len(stored)%size
	if rest > 0 {
		whole-- // the last whole block and the rest have changed places
	}
	for i := range whole {
		x.block(plain[i*size:][:size], stored[i*size:][:size], &tweak)
		double(&tweak)
	}
	if rest > 0 {
		last := tweak
		double(&last)
		end := plain[whole*size:]
		var block [size]byte
		x.block(block[:], stored[whole*size:][:size], &last)
		copy(end[size:], block[:rest])
		copy(block[:], stored[(whole+1)*size:])
		x.block(end[:size], block[:], &tweak)
	}
	return unpad(plain)
}

// block decrypts one block. to and from may be the same.
func (x *xts) block(to, from []byte, tweak *[aes.BlockSize]byte) {
	subtle.XORBytes(to, from, tweak[:])
	x.data.Decrypt(to, to)
	subtle.XORBytes(to, to, tweak[:])
}

// double multiplies a tweak by x in GF(2^128).
func double(tweak *[aes.BlockSize]byte) {
	low, high := binary.LittleEndian.Uint64(tweak[:]), binary.LittleEndian.Uint64(tweak[8:])
	carry := high >> 63 * 0x87
	binary.LittleEndian.PutUint64(tweak[8:], high<<1|low>>63)
	binary.LittleEndian.PutUint64(tweak[:], low<<1^carry)
}

const (
	paddedSize  = aes.BlockSize + 2
	paddedMagic = "\x78\x90"
)

// unpad undoes what Nydus does to data of less than a block, for which XTS has
// no room: it fills the block with the number of bytes that are missing and adds
// two bytes of magic. Other data of that size and end is changed by it, too,
// here as in nydusd; its digest then shows that.
func unpad(plain []byte) ([]byte, error) {
	if len(plain) != paddedSize || string(plain[aes.BlockSize:]) != paddedMagic {
		return plain, nil
	}
	missing := int(plain[aes.BlockSize-1])
	if missing >= aes.BlockSize {
		return nil, fmt.Errorf("decrypted bytes are padded by %d: %w", missing, rafs.ErrCorrupt)
	}
	return plain[:aes.BlockSize-missing], nil
}
