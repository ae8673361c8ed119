package consistency

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/blob"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
)

// resultOf is the report's answer of one rule.
func resultOf(t *testing.T, images Images, rule Rule) Result {
	t.Helper()
	report, err := Check(t.Context(), images, Options{})
	require.NoError(t, err)
	for _, r := range report.Results {
		if r.Rule == rule {
			return r
		}
	}
	t.Fatalf("no rule %s", rule)
	return Result{}
}

// TestSpoiledTails has a registry that gives other bytes of a blob's tail than it
// has, at first or always: neither is a difference of the image.
func TestSpoiledTails(t *testing.T) {
	for _, version := range []string{"5", "6"} {
		for name, times := range map[string]int64{"once": 1, "twice": 2, "always": 1 << 40} {
			t.Run("v"+version+" "+name, func(t *testing.T) {
				registry := testregistry.Start(t)
				oci := testimage.BuildOCI(t, testimage.SecretCmd(t))
				testimage.Push(t, registry.Host()+"/image:oci", oci)
				testimage.Push(t, registry.Host()+"/image:nydus", testimage.Convert(t, oci, testimage.ConvertOptions{FSVersion: version}))
				proxy := testregistry.CountingProxy(t, registry.Host())
				images := openPair(t, proxy.Host()+"/image:oci", proxy.Host()+"/image:nydus")
				var spoiled atomic.Int64
				proxy.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
					asked := r.Header.Get("Range")
					if !strings.HasSuffix(r.URL.Path, images.Target.Layers[0].Digest.String()) || asked == "bytes=0-0" || spoiled.Load() >= times {
						return false
					}
					spoiled.Add(1)
					answer := httptest.NewRecorder()
					proxy.Forward(answer, r)
					for key, values := range answer.Header() {
						w.Header()[key] = values
					}
					w.WriteHeader(answer.Code)
					body := answer.Body.Bytes()
					for at := 7; at < len(body); at += 16 {
						body[at] ^= 1
					}
					_, _ = w.Write(body)
					return true
				})
				r := resultOf(t, images, RuleBootstrap)
				require.NotZero(t, spoiled.Load())
				if times == 1 {
					require.NoError(t, r.Err)
					assert.Equal(t, Equal, r.Verdict(), "%v", r.Differences)
					return
				}
				if times > 2 {
					assert.ErrorIs(t, r.Err, blob.ErrDigest)
				}
				assert.NotEqual(t, Different, r.Verdict(), "%v", r.Differences)
			})
		}
	}
}

// TestProvenDifference: what blobs show that are as the manifest says is a
// difference, in a registry, too.
func TestProvenDifference(t *testing.T) {
	registry := testregistry.Start(t)
	oci := testimage.BuildOCI(t, testimage.SecretCmd(t))
	testimage.Push(t, registry.Host()+"/image:oci", oci)
	nydus := testimage.Convert(t, oci, testimage.ConvertOptions{FSVersion: "5"})
	testimage.Push(t, registry.Host()+"/image:nydus", testimage.AlterBootstrap(t, nydus, func(b []byte) []byte {
		return bytes.ReplaceAll(b, []byte("deploy.env"), []byte("deploy.enw"))
	}))
	proxy := testregistry.CountingProxy(t, registry.Host())
	images := openPair(t, proxy.Host()+"/image:oci", proxy.Host()+"/image:nydus")
	r := resultOf(t, images, RuleBootstrap)
	require.NoError(t, r.Err)
	assert.Equal(t, Different, r.Verdict())
	whole := 0
	for _, request := range proxy.Log() {
		if request.Range == "bytes=0-" && strings.HasSuffix(request.Path, images.Target.Layers[0].Digest.String()) {
			whole++
		}
	}
	assert.Equal(t, 1, whole, "the blob was read whole, to be sure")
}
