package e2e

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
)

// TestSpoiledName spoils a name in the bootstrap of a layer of RAFS v5 on its way: no
// digest tells, but it contradicts the image, or is no name. Spoiled once, that changes
// nothing; spoiled each time, nothing of it stays.
func TestSpoiledName(t *testing.T) {
	t.Parallel()
	const name = "marked-name-xyz"
	large := make([]byte, 300<<10) // larger than what is read whole
	_, _ = rand.NewChaCha8([32]byte{}).Read(large)
	spec := testimage.Spec{Name: "spoiled", Layers: []testimage.Layer{
		{testimage.Text("etc/"+name, "x"), testimage.Reg("var/large", large), testimage.SecretFile("root/token.txt")},
		{testimage.Whiteout("root/token.txt")},
	}}
	registry := testregistry.Start(t)
	publish(t, registry, spec)
	proxy := testregistry.CountingProxy(t, registry.Host())
	scan := func(cache string) (result, map[string]any) {
		r := run(t, "trivy-nydus", append(slices.Clone(scanFlags), "--format", "json", "--cache-dir", cache, proxy.Host()+"/test/spoiled:v5")...)
		if r.code != 0 {
			return r, nil
		}
		file := filepath.Join(t.TempDir(), "report.json")
		require.NoError(t, os.WriteFile(file, []byte(r.stdout), 0o600))
		return r, decode(t, file)
	}
	_, want := scan(t.TempDir())
	require.NotZero(t, count(want, "Secrets"), "the one that a layer deletes")

	for _, spoiled := range []string{"marked\x00name-xyz", "marked-name-abc"} {
		for _, most := range []int32{1, 1000} {
			var times atomic.Int32
			proxy.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.Contains(r.URL.Path, "/blobs/") {
					return false
				}
				real := httptest.NewRecorder()
				proxy.Forward(real, r)
				body := real.Body.Bytes()
				if real.Code == http.StatusPartialContent && bytes.Contains(body, []byte(name)) && times.Add(1) <= most {
					body = bytes.ReplaceAll(body, []byte(name), []byte(spoiled))
				}
				maps.Copy(w.Header(), real.Header())
				w.WriteHeader(real.Code)
				_, _ = w.Write(body)
				return true
			})
			cache := t.TempDir()
			r, got := scan(cache)
			require.NotZero(t, times.Load(), "nothing was spoiled")
			switch {
			case most == 1:
				require.Zero(t, r.code, r.stderr)
				assertSame(t, want, got)
			case strings.Contains(spoiled, "\x00"):
				assert.Equal(t, 2, r.code, r.stderr)
			default:
				assert.Zero(t, r.code, r.stderr)
				assert.Contains(t, r.stderr, "contradict")
			}
			proxy.Intercept(nil)
			r, got = scan(cache)
			require.Zero(t, r.code, r.stderr)
			assertSame(t, want, got)
			assert.NotContains(t, r.stderr, "contradict")
		}
	}
}
