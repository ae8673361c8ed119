package consistency

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/blob"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
)

// damageLayer edits the file of a layer's blob in place.
func damageLayer(t testing.TB, p pairLayout, number int, edit func([]byte) []byte) {
	t.Helper()
	name := p.blob(openTarget(t, p.dir+":nydus").Target.Layers[number].Digest.String())
	content, err := os.ReadFile(name)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(name, edit(content), 0o644))
}

// TestOneBit changes one bit of a blob, anywhere: in chunks, tables, headers,
// bootstraps and gaps.
func TestOneBit(t *testing.T) {
	for _, o := range []testimage.ConvertOptions{{FSVersion: "5"}, {FSVersion: "6"}, {FSVersion: "6", Compressor: "none"}} {
		t.Run(formName(o), func(t *testing.T) {
			random := rand.New(rand.NewPCG(7, 7))
			for range 40 {
				p := newPair(t, o)
				var bit int
				damageLayer(t, p, random.IntN(3), func(b []byte) []byte {
					bit = random.IntN(8 * len(b))
					b[bit/8] ^= 1 << (bit % 8)
					return b
				})
				_, data, _ := runBlobRules(t, openTarget(t, p.dir+":nydus"))
				require.NoError(t, data.Err, "bit %d", bit)
				require.NotEmpty(t, data.Differences, "bit %d", bit)
				last := data.Differences[0]
				assert.Regexp(t, `^blob sha256:`, last.Path)
				assert.Equal(t, "content", last.Field)
			}
		})
	}
}

// TestDamagedChunk: the file is named whose chunk is wrong.
func TestDamagedChunk(t *testing.T) {
	for _, o := range []testimage.ConvertOptions{{FSVersion: "5"}, {FSVersion: "6"}} {
		t.Run(formName(o), func(t *testing.T) {
			p := newPair(t, o)
			damageLayer(t, p, 0, func(b []byte) []byte { b[10] ^= 1; return b })
			images := openTarget(t, p.dir+":nydus")
			_, data, counts := runBlobRules(t, images)
			require.NoError(t, data.Err)
			path := "blob " + images.Target.Layers[0].Digest.String()
			require.Equal(t, []string{path + " content", path + " chunk 0 content"}, fields(data))
			assert.Contains(t, data.Differences[1].Want, `in "etc/motd"`)
			assert.EqualValues(t, 1, counts.BlobChunks, "that of the other blob")
		})
	}
}

func TestTruncatedMissingSwapped(t *testing.T) {
	for _, test := range []struct {
		name   string
		damage func(t testing.TB, p pairLayout, names []string)
		want   []string // of layer 0, then of layer 1
	}{
		{"truncated", func(t testing.TB, _ pairLayout, names []string) { require.NoError(t, os.Truncate(names[0], 100)) }, []string{"size"}},
		{"longer", func(t testing.TB, p pairLayout, _ []string) {
			damageLayer(t, p, 0, func(b []byte) []byte { return append(b, 0) })
		}, []string{"size"}},
		{"missing", func(t testing.TB, _ pairLayout, names []string) { require.NoError(t, os.Remove(names[0])) }, []string{"missing"}},
		{"empty", func(t testing.TB, _ pairLayout, names []string) { require.NoError(t, os.Truncate(names[0], 0)) }, []string{"size"}},
		{"another blob of the same size", func(t testing.TB, p pairLayout, _ []string) {
			damageLayer(t, p, 0, func(b []byte) []byte { return make([]byte, len(b)) })
		}, []string{"content"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPair(t, testimage.ConvertOptions{})
			var names []string
			layers := openTarget(t, p.dir+":nydus").Target.Layers
			for _, layer := range layers {
				names = append(names, p.blob(layer.Digest.String()))
			}
			test.damage(t, p, names)
			bootstrap, data, _ := runBlobRules(t, openTarget(t, p.dir+":nydus"))
			require.NoError(t, bootstrap.Err)
			require.NoError(t, data.Err)
			assert.Contains(t, strings.Join(fields(bootstrap), "\n"), "bootstrap layers[0]")
			require.NotEmpty(t, data.Differences)
			assert.Equal(t, "blob "+layers[0].Digest.String(), data.Differences[0].Path)
			assert.Equal(t, test.want[0], data.Differences[0].Field)
			for _, d := range data.Differences {
				assert.NotContains(t, d.Path, layers[1].Digest.Hex, "the other blob is as it was")
			}
		})
	}
}

// A countingSource counts how often each byte is read.
type countingSource struct {
	blob.Source
	read atomic.Int64
}

func (s *countingSource) ReadRange(ctx context.Context, p []byte, off int64) error {
	s.read.Add(int64(len(p)))
	return s.Source.ReadRange(ctx, p, off)
}

// TestReadsOnce: no byte of a blob is read twice for its chunks.
func TestReadsOnce(t *testing.T) {
	for _, o := range append(forms(), testimage.ConvertOptions{FSVersion: "6", ChunkSize: 0x1000000, Compressor: "none"}) {
		t.Run(formName(o)+fmt.Sprint(o.ChunkSize), func(t *testing.T) {
			dir := t.TempDir()
			oci := testimage.BuildOCI(t, testimage.Odd(t))
			testimage.WriteLayout(t, dir, map[string]any{"nydus": testimage.Convert(t, oci, o)})
			images := openTarget(t, dir+":nydus")
			bootstrap, err := images.Target.Bootstrap(t.Context())
			require.NoError(t, err)
			tails := readTails(t.Context(), images.Target, bootstrap.Tree)
			images.layerTails = func() []layerTail { return tails }
			var sources []*countingSource
			for i := range images.Target.Layers {
				s := &countingSource{Source: images.Target.Layers[i].Source}
				images.Target.Layers[i].Source = s
				sources = append(sources, s)
			}
			var counts Counts
			data := checkData(t.Context(), images, Options{}, &counts)
			require.NoError(t, data.Err)
			require.Empty(t, data.Differences)
			require.NotZero(t, counts.BlobChunks)
			for i, s := range sources {
				assert.Equal(t, s.Size(), s.read.Load(), "layer %d", i)
			}
		})
	}
}

// TestDataFromRegistry asks a registry for each blob in one request, and says of
// a blob that is gone that it is.
func TestDataFromRegistry(t *testing.T) {
	images, proxy := pushedPair(t, testimage.Odd(t))
	whole := func() map[string]int {
		asked := make(map[string]int)
		for _, r := range proxy.Log() {
			if r.IsBlob() && r.Range == "bytes=0-" {
				asked[r.Path[strings.LastIndex(r.Path, "/")+1:]]++
			}
		}
		return asked
	}
	once := make(map[string]int)
	for _, l := range images.Target.Layers {
		once[l.Digest.String()] = 1
	}
	_, data, _ := runBlobRules(t, images)
	require.NoError(t, data.Err)
	assert.Empty(t, data.Differences)
	assert.Equal(t, once, whole())

	var broken atomic.Int32
	proxy.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Range") != "bytes=0-" {
			return false
		}
		broken.Add(1)
		proxy.Forward(&cutWriter{w, 300}, r)
		return true
	})
	_, data, _ = runBlobRules(t, images)
	require.NoError(t, data.Err)
	assert.Empty(t, data.Differences, "what broke off is asked for from there")
	assert.EqualValues(t, len(once), broken.Load())

	gone := images.Target.Layers[1].Digest.String()
	proxy.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, gone) {
			return false
		}
		w.WriteHeader(http.StatusNotFound)
		return true
	})
	bootstrap, data, _ := runBlobRules(t, images)
	require.ErrorIs(t, bootstrap.Err, blob.ErrMissing, "what a registry does not give says nothing of the image")
	assert.Empty(t, bootstrap.Differences)
	require.ErrorIs(t, data.Err, blob.ErrMissing)
	assert.Empty(t, data.Differences)
}

// TestDataCannotBeRead: what may be there tomorrow is no difference.
func TestDataCannotBeRead(t *testing.T) {
	p := newPair(t, testimage.ConvertOptions{})
	images := openTarget(t, p.dir+":nydus")
	images.Target.Layers[0].Source = failingSource{size: images.Target.Layers[0].Size}
	bootstrap, data, counts := runBlobRules(t, images)
	require.Error(t, bootstrap.Err)
	require.Error(t, data.Err)
	assert.Empty(t, bootstrap.Differences)
	assert.Empty(t, data.Differences)
	assert.Equal(t, Incomplete, data.Verdict())
	assert.Equal(t, 0, counts.BlobsUnread)
}
