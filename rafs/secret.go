package rafs

import (
	"fmt"
	"io"
)

// A Secret is the key and the initialization vector of an encrypted blob, which
// its entry in the blob table holds as they are. It is printed without them.
type Secret struct {
	key [32]byte
	iv  [16]byte
}

// Reveal returns the key, for AES-128-XTS two of 16 bytes, and the
// initialization vector.
func (s Secret) Reveal() (key [32]byte, iv [16]byte) { return s.key, s.iv }

// Format implements [fmt.Formatter] for all verbs, so that no message holds the
// key.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "(secret)") }
