//go:build unix

package ocicrypt_test

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestPasswordOfOpenFile reads a password from a file that is open already, as a
// shell's <(…) has it.
func TestPasswordOfOpenFile(t *testing.T) {
	//nolint:staticcheck // ocicrypt reads these
	locked, err := x509.EncryptPEMBlock(rand.Reader, "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey(t)), []byte("secret"), x509.PEMCipherAES256)
	require.NoError(t, err)
	files := map[string][]byte{"key": pem.EncodeToMemory(locked)}
	for password, opens := range map[string]bool{"secret": true, "other": false} {
		r, w, err := os.Pipe()
		require.NoError(t, err)
		_, err = w.WriteString(password)
		require.NoError(t, err)
		require.NoError(t, w.Close())
		number, err := syscall.Dup(int(r.Fd()))
		require.NoError(t, err)
		require.NoError(t, r.Close())
		_, err = readKeys(t, files, fmt.Sprintf("{}/key:fd=%d", number))
		require.Equal(t, opens, err == nil, "error %v", err)
	}
}
