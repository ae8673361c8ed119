package blob

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	require.NoError(t, err)
	return b
}

// TestXTSVectors decrypts vectors of IEEE Std 1619-2007, annex B.
func TestXTSVectors(t *testing.T) {
	for number, v := range map[int]struct{ key1, key2, unit, plain, stored string }{
		1: {
			"00000000000000000000000000000000", "00000000000000000000000000000000", "",
			"0000000000000000000000000000000000000000000000000000000000000000",
			"917cf69ebd68b2ec9b9fe9a3eadda692cd43d2f59598ed858c02c2652fbf922e",
		},
		2: {
			"11111111111111111111111111111111", "22222222222222222222222222222222", "3333333333",
			"4444444444444444444444444444444444444444444444444444444444444444",
			"c454185e6a16936e39334038acef838bfb186fff7480adc4289382ecd6d394f0",
		},
		3: {
			"fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0", "22222222222222222222222222222222", "3333333333",
			"4444444444444444444444444444444444444444444444444444444444444444",
			"af85336b597afc1a900b2eb21ec949d292df4c047e0b21532186a5971a227a89",
		},
		15: {
			"fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0", "bfbebdbcbbbab9b8b7b6b5b4b3b2b1b0", "9a78563412",
			"000102030405060708090a0b0c0d0e0f10", "6c1625db4671522d3d7599601de7ca09ed",
		},
		16: {
			"fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0", "bfbebdbcbbbab9b8b7b6b5b4b3b2b1b0", "9a78563412",
			"000102030405060708090a0b0c0d0e0f1011", "d069444b7a7e0cab09e24447d24deb1fedbf",
		},
		17: {
			"fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0", "bfbebdbcbbbab9b8b7b6b5b4b3b2b1b0", "9a78563412",
			"000102030405060708090a0b0c0d0e0f101112", "e5df1351c0544ba1350b3363cd8ef4beedbf9d",
		},
		18: {
			"fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0", "bfbebdbcbbbab9b8b7b6b5b4b3b2b1b0", "9a78563412",
			"000102030405060708090a0b0c0d0e0f10111213", "9d84c813f719aa2c7be3f66171c7c5c2edbf9dac",
		},
	} {
		t.Run(fmt.Sprint(number), func(t *testing.T) {
			key := [32]byte(append(unhex(t, v.key1), unhex(t, v.key2)...))
			var iv [16]byte
			copy(iv[:], unhex(t, v.unit))
			x, err := newXTS(key, iv)
			require.NoError(t, err)
			stored := unhex(t, v.stored)
			plain, err := x.decrypt(stored)
			require.NoError(t, err)
			assert.Equal(t, v.plain, hex.EncodeToString(plain))
			assert.Equal(t, v.stored, hex.EncodeToString(stored), "what is stored is left as it is")
		})
	}
}

// encrypt is the inverse of decrypt, for whole blocks and without padding.
func (x *xts) encrypt(plain []byte) []byte {
	stored := make([]byte, len(plain))
	var tweak [16]byte
	x.tweak.Encrypt(tweak[:], x.iv[:])
	for i := 0; i < len(plain); i += 16 {
		for n := range 16 {
			stored[i+n] = plain[i+n] ^ tweak[n]
		}
		x.data.Encrypt(stored[i:], stored[i:])
		for n := range 16 {
			stored[i+n] ^= tweak[n]
		}
		double(&tweak)
	}
	return stored
}

func TestXTSRefuses(t *testing.T) {
	x, err := newXTS([32]byte{1}, [16]byte{2})
	require.NoError(t, err)
	for n := range 16 {
		_, err := x.decrypt(make([]byte, n))
		assert.ErrorIs(t, err, rafs.ErrCorrupt, "%d bytes", n)
	}
}

// TestUnpad: data of less than a block is padded as Nydus' builder does.
func TestUnpad(t *testing.T) {
	for n := range 16 {
		padded := append(bytes.Repeat([]byte{'x'}, n), bytes.Repeat([]byte{byte(16 - n)}, 16-n)...)
		padded = append(padded, 0x78, 0x90)
		got, err := unpad(padded)
		if n == 0 {
			assert.ErrorIs(t, err, rafs.ErrCorrupt, "no data is never stored")
			continue
		}
		require.NoError(t, err)
		assert.Equal(t, bytes.Repeat([]byte{'x'}, n), got)
	}
	for _, kept := range []string{"", "x", "sixteen bytes ..", "eighteen bytes ...", "nineteen bytes .\x78\x90 "} {
		got, err := unpad([]byte(kept))
		require.NoError(t, err)
		assert.Equal(t, kept, string(got))
	}
}
