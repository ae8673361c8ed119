package nydusimage

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/containers/ocicrypt/config"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/ocicrypt"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// keyPair makes a recipient and the keys that decrypt for it.
func keyPair(t *testing.T) (config.CryptoConfig, *ocicrypt.Keys) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	require.NoError(t, err)
	recipient, err := config.EncryptWithJwe([][]byte{pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})})
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "key.pem")
	write(t, file, string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})), 0o600)
	keys, err := ocicrypt.ReadKeys([]string{file})
	require.NoError(t, err)
	return recipient, keys
}

// TestEncryptedImage opens images whose bootstrap layer was encrypted as nydusify
// does it, with the key and without.
func TestEncryptedImage(t *testing.T) {
	recipient, keys := keyPair(t)
	_, others := keyPair(t)
	n := fixture(t)
	for _, compression := range []string{"gzip", "zstd", "none"} {
		t.Run(compression, func(t *testing.T) {
			dir, cache := t.TempDir(), t.TempDir()
			img := testimage.Wrap(t, n, testimage.Wrapping{Compression: compression, Recipients: []config.CryptoConfig{recipient}})
			testimage.WriteLayout(t, dir, map[string]any{"nydus": img})
			metadata := NewMetadataCache(cache)

			err := mustFail(t, dir, Options{Metadata: metadata}, ocicrypt.ErrKey)
			assert.ErrorContains(t, err, "no key was given")
			mustFail(t, dir, Options{Metadata: metadata, Keys: others}, ocicrypt.ErrKey)
			entries, err := os.ReadDir(cache)
			require.NoError(t, err)
			assert.Empty(t, entries, "a layer that cannot be read was fetched")

			for range 2 { // from the layout, from the cache
				image := mustOpen(t, dir, Options{Metadata: metadata, Keys: keys})
				bootstrap, err := image.Bootstrap(t.Context())
				require.NoError(t, err)
				assertEncrypted(t, cache, bootstrap.File)
				config, err := img.ConfigFile()
				require.NoError(t, err)
				assert.Equal(t, config.RootFS.DiffIDs[len(config.RootFS.DiffIDs)-1], bootstrap.DiffID)
			}
			mustFail(t, dir, Options{Metadata: metadata}, ocicrypt.ErrKey)

			image := mustOpen(t, dir, Options{Keys: keys}) // without a cache
			first, err := image.Bootstrap(t.Context())
			require.NoError(t, err)
			again, err := image.Bootstrap(t.Context())
			require.NoError(t, err)
			assert.Equal(t, first.File, again.File)
		})
	}
}

// assertEncrypted fails if a cache holds a bootstrap in the clear.
func assertEncrypted(t *testing.T, cache string, bootstrap []byte) {
	t.Helper()
	files := 0
	require.NoError(t, filepath.WalkDir(cache, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		data = data[min(len(data), 32):] // behind the cache's own sum
		for _, magic := range [][]byte{{0x1f, 0x8b}, {0x28, 0xb5, 0x2f, 0xfd}} {
			assert.False(t, bytes.HasPrefix(data, magic))
		}
		assert.False(t, bytes.Contains(data, bootstrap[1024:1152]))
		return nil
	}))
	assert.NotZero(t, files)
}

// TestEncryptedOtherwise refuses what no key file decrypts, by name.
func TestEncryptedOtherwise(t *testing.T) {
	recipient, keys := keyPair(t)
	n := fixture(t)
	for _, c := range []struct {
		name  string
		alter func(map[string]string)
		err   error
		says  string
	}{
		{"by a key provider", func(a map[string]string) {
			delete(a, "org.opencontainers.image.enc.keys.jwe")
			a["org.opencontainers.image.enc.keys.provider.attestation-agent"] = "AAAA"
		}, rafs.ErrUnsupported, `"attestation-agent"`},
		{"without annotations", func(a map[string]string) { delete(a, "org.opencontainers.image.enc.keys.jwe") }, ErrInvalid, "no annotation holds its key"},
		{"with another cipher's options", func(a map[string]string) { a["org.opencontainers.image.enc.pubopts"] = "e30=" }, rafs.ErrUnsupported, `cipher ""`},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			img := testimage.Wrap(t, n, testimage.Wrapping{Recipients: []config.CryptoConfig{recipient}, Edit: func(m *v1.Manifest) {
				last := m.Layers[len(m.Layers)-1]
				require.Equal(t, types.MediaType("application/vnd.oci.image.layer.v1.tar+gzip+encrypted"), last.MediaType)
				c.alter(last.Annotations)
			}})
			testimage.WriteLayout(t, dir, map[string]any{"nydus": img})
			err := mustFail(t, dir, Options{Keys: keys}, c.err)
			assert.ErrorContains(t, err, c.says)
		})
	}
}
