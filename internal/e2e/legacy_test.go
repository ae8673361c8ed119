package e2e

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	cryptoconfig "github.com/containers/ocicrypt/config"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
)

// keyPair makes a recipient of encrypted layers, and a file with the private key.
func keyPair(t *testing.T) (recipient cryptoconfig.CryptoConfig, file string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	require.NoError(t, err)
	recipient, err = cryptoconfig.EncryptWithJwe([][]byte{pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})})
	require.NoError(t, err)
	file = filepath.Join(t.TempDir(), "key.pem")
	private := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	require.NoError(t, os.WriteFile(file, private, 0o600))
	return recipient, file
}

// TestSameReportOfOtherForms scans one image as different converters store it.
// Each has its layers' trees, so that the report is that of trivy image.
func TestSameReportOfOtherForms(t *testing.T) {
	registry := testregistry.Start(t)
	spec := testimage.Tiny(t)
	repository := publish(t, registry, spec)
	want := report(t, "trivy", append([]string{"image", "--cache-dir", cacheDir(t), repository + ":oci"}, everything...)...)
	require.NotZero(t, count(want, "Secrets"))
	recipient, key := keyPair(t)
	oci := testimage.BuildOCI(t, spec)
	for _, version := range []string{"5", "6"} {
		n := testimage.Convert(t, oci, testimage.ConvertOptions{FSVersion: version})
		wrap := func(w testimage.Wrapping) v1.Image {
			w.Edit = func(m *v1.Manifest) { m.Annotations[testimage.AnnotationBuilder] = "v2.4.4" }
			return testimage.Wrap(t, n, w)
		}
		dictSpec := testimage.Spec{Name: "dict", Layers: spec.Layers[:1]}
		dict := testimage.Convert(t, testimage.BuildOCI(t, dictSpec), testimage.ConvertOptions{FSVersion: version})
		for name, c := range map[string]struct {
			img   v1.Image
			flags []string
		}{
			"legacy-name": {wrap(testimage.Wrapping{BootstrapName: "image.boot"}), nil},
			"zstd":        {wrap(testimage.Wrapping{Compression: "zstd"}), nil},
			"docker":      {wrap(testimage.Wrapping{Docker: true, Compression: "none"}), nil},
			"encrypted":   {wrap(testimage.Wrapping{Recipients: []cryptoconfig.CryptoConfig{recipient}}), []string{"--decryption-key", key}},
			"chunk-dict":  {testimage.ConvertWithDict(t, oci, dict), nil},
		} {
			t.Run("v"+version+"/"+name, func(t *testing.T) {
				reference := repository + ":" + name + version
				testimage.Push(t, reference, c.img)
				cache := cacheDir(t)
				got := report(t, "trivy-nydus", slices.Concat([]string{"--cache-dir", cache, reference}, everything, c.flags)...)
				assertSame(t, want, got)
				if c.flags == nil {
					return
				}
				r := run(t, "trivy-nydus", slices.Concat([]string{"--cache-dir", cacheDir(t), reference}, everything)...)
				assert.Equal(t, 2, r.code)
				assert.Empty(t, r.stdout)
				assert.Contains(t, r.stderr, "no key for the encrypted layer: it was encrypted by JWE, and no key was given")
				assert.Contains(t, r.stderr, "--decryption-key")
			})
		}
	}
}

// TestSameFindingsOfStackedImages: images as nydusify made them before v2.2 do not
// say which layer brought a file, but hold the same packages.
func TestSameFindingsOfStackedImages(t *testing.T) {
	registry := testregistry.Start(t)
	spec := testimage.Tiny(t)
	repository := publish(t, registry, spec)
	want := report(t, "trivy", append([]string{"image", "--cache-dir", cacheDir(t), repository + ":oci"}, everything...)...)
	require.NotEmpty(t, vulnerabilities(want))
	for _, version := range []string{"5", "6"} {
		reference := repository + ":stacked" + version
		testimage.Push(t, reference, testimage.Stack(t, testimage.BuildOCI(t, spec), version))
		got := report(t, "trivy-nydus", append([]string{"--cache-dir", cacheDir(t), reference}, everything...)...)
		assert.Equal(t, vulnerabilities(want), vulnerabilities(got))
		assert.True(t, hasSecretIn(got, testimage.SecretPath))
	}
}

func hasSecretIn(report map[string]any, path string) bool {
	return slices.ContainsFunc(list(report["Results"]), func(r any) bool {
		result := r.(map[string]any)
		return len(list(result["Secrets"])) > 0 && strings.TrimPrefix(result["Target"].(string), "/") == path
	})
}

// TestUnknownOrderHidesNoSecret: nydusify before v2.4.1 lists the layers in an
// order of its own. Which of them are the base image's, where Trivy looks for no
// secrets, cannot be told then, so that none is spared.
func TestUnknownOrderHidesNoSecret(t *testing.T) {
	registry := testregistry.Start(t)
	spec := child(t, testimage.SecretCmd(t))
	repository := publish(t, registry, spec)
	for _, version := range []string{"5", "6"} {
		n := testimage.Convert(t, testimage.BuildOCI(t, spec), testimage.ConvertOptions{FSVersion: version})
		var table []string
		for _, b := range n.Blobs {
			table = append(table, b.Digest.Hex)
		}
		known := report(t, "trivy-nydus", append([]string{"--cache-dir", cacheDir(t), repository + ":v" + version}, everything...)...)
		require.False(t, hasSecretIn(known, testimage.SecretPath), "Trivy takes the layer for one of the base image")
		reference := repository + ":old" + version
		testimage.Push(t, reference, testimage.OldOrder(t, n, table))
		got := report(t, "trivy-nydus", append([]string{"--cache-dir", cacheDir(t), reference}, everything...)...)
		assert.True(t, hasSecretIn(got, testimage.SecretPath), "v%s", version)
		assert.True(t, hasSecretIn(got, "srv/child/token.env"), "v%s", version)
	}
}

// TestWhiteoutNamesOfLowestLayer: what nydusd shows under the name of a whiteout is
// analyzed, unless it is empty.
func TestWhiteoutNamesOfLowestLayer(t *testing.T) {
	registry := testregistry.Start(t)
	repository := publish(t, registry, testimage.Whiteouts())
	for _, version := range []string{"5", "6"} {
		got := report(t, "trivy-nydus", append([]string{"--cache-dir", cacheDir(t), repository + ":v" + version}, everything...)...)
		assert.True(t, hasSecretIn(got, ".wh.content.env"), "v%s", version)
		assert.True(t, hasSecretIn(got, ".wh.dir/inside.env"), "v%s", version)
		for _, r := range list(got["Results"]) {
			assert.NotContains(t, r.(map[string]any)["Target"], "nothere")
		}
	}
}
