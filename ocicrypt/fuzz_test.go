package ocicrypt_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/containers/ocicrypt/config"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/ocicrypt"
)

var update = flag.Bool("update", false, "make the keys and annotations in testdata anew")

// fuzzKeys are files of keys in testdata, which open what lies beside them.
var fuzzKeys = []string{"rsa.pem", "certificate.pem", "ec.pem", "ring"}

// TestFuzzSeeds opens what ocicrypt itself encrypted, and is kept for fuzzing.
func TestFuzzSeeds(t *testing.T) {
	if *update {
		key, ec := rsaKey(t), ecKey(t)
		gpg, ring := pgpKey(t, "", false)
		for name, data := range map[string][]byte{"rsa.pem": asPEM("PRIVATE KEY", pkcs8(t, key)), "certificate.pem": certificate(t, key),
			"ec.pem": asPEM("PRIVATE KEY", pkcs8(t, ec)), "ring": ring} {
			require.NoError(t, os.WriteFile(filepath.Join("testdata", name), data, 0o644))
		}
		cert, err := os.ReadFile("testdata/certificate.pem")
		require.NoError(t, err)
		for name, cc := range map[string]config.CryptoConfig{"jwe-rsa": jwe(t, &key.PublicKey), "jwe-ec": jwe(t, &ec.PublicKey), "pkcs7": pkcs7(t, cert), "pgp": gpg} {
			_, annotations := encrypt(t, cc)
			data, err := json.MarshalIndent(annotations, "", "\t")
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join("testdata", name+".json"), append(data, '\n'), 0o644))
		}
	}
	keys := readFuzzKeys(t)
	for name, annotations := range fuzzSeeds(t) {
		_, err := keys.Unwrap(annotations)
		require.NoError(t, err, name)
	}
}

func readFuzzKeys(t testing.TB) *ocicrypt.Keys {
	t.Helper()
	var names []string
	for _, name := range fuzzKeys {
		names = append(names, filepath.Join("testdata", name))
	}
	keys, err := ocicrypt.ReadKeys(names)
	require.NoError(t, err)
	return keys
}

func fuzzSeeds(t testing.TB) map[string]map[string]string {
	t.Helper()
	names, err := filepath.Glob("testdata/*.json")
	require.NoError(t, err)
	require.Len(t, names, 4)
	all := make(map[string]map[string]string)
	for _, name := range names {
		data, err := os.ReadFile(name)
		require.NoError(t, err)
		var annotations map[string]string
		require.NoError(t, json.Unmarshal(data, &annotations))
		all[name] = annotations
	}
	return all
}

// The annotations of an encrypted layer, but for their common beginning.
const (
	fuzzedPrefix = "org.opencontainers.image.enc."
	fuzzedPublic = fuzzedPrefix + "pubopts"
)

// FuzzUnwrap gives any messages, decoded or as they are, to all keys: it ends, with
// an error of a class or a key; and nothing that was not authenticated is decrypted.
func FuzzUnwrap(f *testing.F) {
	keys := readFuzzKeys(f)
	kinds := []string{"jwe", "pkcs7", "pgp", "pkcs11", "provider.x"}
	seeds := fuzzSeeds(f)
	for _, name := range slices.Sorted(maps.Keys(seeds)) {
		for k, kind := range kinds {
			value := seeds[name][fuzzedPrefix+"keys."+kind]
			if value == "" {
				continue
			}
			message, err := base64.StdEncoding.DecodeString(value)
			require.NoError(f, err)
			public, err := base64.StdEncoding.DecodeString(seeds[name][fuzzedPublic])
			require.NoError(f, err)
			f.Add(uint8(k), message, public, true)
			f.Add(uint8(k), []byte(value), public, false)
			f.Add(uint8(k+1), message, public, true)
		}
	}
	f.Fuzz(func(t *testing.T, kind uint8, message, public []byte, encode bool) {
		value := string(message)
		if encode {
			value = base64.StdEncoding.EncodeToString(message)
		}
		annotations := map[string]string{
			fuzzedPrefix + "keys." + kinds[int(kind)%len(kinds)]: value,
			fuzzedPublic: base64.StdEncoding.EncodeToString(public),
		}
		key, err := keys.Unwrap(annotations)
		again, errAgain := keys.Unwrap(annotations)
		require.Equal(t, key, again, "unwrapped twice")
		require.Equal(t, err == nil, errAgain == nil, "unwrapped twice: %v and %v", err, errAgain)
		if err != nil {
			requireClass(t, err)
			return
		}
		content := bytes.Clone([]byte("not what was encrypted"))
		if _, err := key.Decrypt(content); err == nil {
			t.Error("a layer was decrypted that nobody encrypted")
		} else {
			requireClass(t, err)
		}
		_, err = (*ocicrypt.Keys)(nil).Unwrap(annotations)
		require.Error(t, err, "without keys")
	})
}

func requireClass(t *testing.T, err error) {
	t.Helper()
	for _, class := range []error{ocicrypt.ErrKey, ocicrypt.ErrMalformed, ocicrypt.ErrUnsupported} {
		if errors.Is(err, class) {
			return
		}
	}
	t.Errorf("an error of no class: %v", err)
}
