package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
)

// scanFlags scan for secrets, which needs every text file and no database.
var scanFlags = append(slices.Clone(offline), "--scanners", "secret")

// refused scans what must not give a report: exit code 2, one line that holds
// each of the words, a hint, no report, nothing in the cache.
func refused(t *testing.T, args []string, words ...string) {
	t.Helper()
	cache := t.TempDir()
	output := filepath.Join(t.TempDir(), "report.json")
	r := run(t, "trivy-nydus", append(slices.Concat(scanFlags, []string{"--quiet", "--cache-dir", cache, "--format", "json", "--output", output}), args...)...)
	assert.Equal(t, 2, r.code, "exit code; stderr: %s", r.stderr)
	assert.Empty(t, r.stdout)
	assert.NotContains(t, r.stderr, "panic")
	lines := strings.Split(strings.TrimSpace(r.stderr), "\n")
	require.Len(t, lines, 2, "one line says what is wrong, one what to do: %s", r.stderr)
	assert.True(t, strings.HasPrefix(lines[0], "error: "), lines[0])
	assert.True(t, strings.HasPrefix(lines[1], "hint: "), lines[1])
	for _, word := range words {
		assert.Contains(t, lines[0], word)
	}
	assert.NoFileExists(t, output)
	assertNothingCached(t, cache)
}

// assertNothingCached looks into Trivy's scan cache for keys.
func assertNothingCached(t *testing.T, dir string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "fanal", "fanal.db"))
	if os.IsNotExist(err) {
		return
	}
	require.NoError(t, err)
	assert.NotContains(t, string(data), "SchemaVersion", "a result was cached")
}

// A layout is an OCI layout with one small Nydus image, to be damaged.
type layout struct {
	dir      string
	manifest v1.Manifest
}

func newLayout(t *testing.T, version string) *layout {
	t.Helper()
	l := &layout{dir: t.TempDir()}
	converted := testimage.Convert(t, testimage.BuildOCI(t, testimage.Tiny(t)), testimage.ConvertOptions{FSVersion: version})
	testimage.WriteLayout(t, l.dir, map[string]any{"nydus": converted})
	manifest, err := converted.Manifest()
	require.NoError(t, err)
	l.manifest = *manifest.DeepCopy()
	return l
}

func (l *layout) path(h v1.Hash) string { return filepath.Join(l.dir, "blobs", h.Algorithm, h.Hex) }

func (l *layout) read(t *testing.T, h v1.Hash) []byte {
	t.Helper()
	data, err := os.ReadFile(l.path(h))
	require.NoError(t, err)
	return data
}

// write stores a blob under its digest.
func (l *layout) write(t *testing.T, data []byte) (v1.Hash, int64) {
	t.Helper()
	h, size, err := v1.SHA256(bytes.NewReader(data))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(l.path(h), data, 0o644))
	return h, size
}

// save writes the manifest as it is now and lets the layout's index name it.
func (l *layout) save(t *testing.T) {
	t.Helper()
	data, err := json.Marshal(l.manifest)
	require.NoError(t, err)
	h, size := l.write(t, data)
	index, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{
		{MediaType: types.OCIManifestSchema1, Digest: h, Size: size},
	}})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(l.dir, "index.json"), index, 0o644))
}

// replaceLayer stores other bytes for a layer, with the digest that they have:
// what somebody does who can push.
func (l *layout) replaceLayer(t *testing.T, n int, data []byte) {
	t.Helper()
	layer := &l.manifest.Layers[n]
	layer.Digest, layer.Size = l.write(t, data)
	l.save(t)
}

// changeBootstrap changes the files of the bootstrap layer.
func (l *layout) changeBootstrap(t *testing.T, change func(name string, data []byte) []byte) {
	t.Helper()
	last := len(l.manifest.Layers) - 1
	zipped, err := gzip.NewReader(bytes.NewReader(l.read(t, l.manifest.Layers[last].Digest)))
	require.NoError(t, err)
	files := tar.NewReader(zipped)
	var out bytes.Buffer
	archive := tar.NewWriter(&out)
	for {
		header, err := files.Next()
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		data, err := io.ReadAll(files)
		require.NoError(t, err)
		if header.Typeflag == tar.TypeReg {
			data = change(header.Name, data)
			header.Size = int64(len(data))
		}
		require.NoError(t, archive.WriteHeader(header))
		_, err = archive.Write(data)
		require.NoError(t, err)
	}
	require.NoError(t, archive.Close())
	l.replaceLayer(t, last, out.Bytes()) // plain tar is read as well
}

func onlyBoot(change func([]byte) []byte) func(string, []byte) []byte {
	return func(name string, data []byte) []byte {
		if path.Base(name) != "image.boot" {
			return data
		}
		return change(data)
	}
}

// useSample puts a bootstrap of another builder into the image.
func (l *layout) useSample(t *testing.T, name string) {
	t.Helper()
	boot, err := os.ReadFile(filepath.Join("..", "..", "rafs", "testdata", name, "bootstrap"))
	require.NoError(t, err)
	l.changeBootstrap(t, onlyBoot(func([]byte) []byte { return boot }))
}

// TestDamagedImages are images that somebody pushed, with digests that agree
// with what is there.
func TestDamagedImages(t *testing.T) {
	for _, test := range []struct {
		name    string
		version string
		damage  func(t *testing.T, l *layout)
		words   []string
	}{
		{"RAFS v4", "5", func(t *testing.T, l *layout) {
			l.changeBootstrap(t, onlyBoot(func(boot []byte) []byte {
				binary.LittleEndian.PutUint32(boot[4:], 0x400)
				return boot
			}))
		}, []string{"RAFS v4"}},
		{"Nydus 3", "6", func(t *testing.T, l *layout) {
			l.changeBootstrap(t, onlyBoot(func(boot []byte) []byte {
				compat := binary.LittleEndian.Uint32(boot[1024+8:])
				binary.LittleEndian.PutUint32(boot[1024+8:], compat&^0x40000000)
				return boot
			}))
		}, []string{"EROFS", "Nydus 3"}},
		{"tarfs", "6", func(t *testing.T, l *layout) {
			l.changeBootstrap(t, onlyBoot(func(boot []byte) []byte {
				flags := binary.LittleEndian.Uint64(boot[1152:])
				binary.LittleEndian.PutUint64(boot[1152:], flags|0x200)
				return boot
			}))
		}, []string{"tarfs"}},
		{"no bootstrap at all", "6", func(t *testing.T, l *layout) {
			l.changeBootstrap(t, onlyBoot(func([]byte) []byte { return []byte("#!/bin/sh\n") }))
		}, []string{"bootstrap"}},
		{"truncated bootstrap", "6", func(t *testing.T, l *layout) {
			l.changeBootstrap(t, onlyBoot(func(boot []byte) []byte { return boot[:len(boot)/2] }))
		}, []string{"bootstrap"}},
		{"truncated bootstrap, v5", "5", func(t *testing.T, l *layout) {
			l.changeBootstrap(t, onlyBoot(func(boot []byte) []byte { return boot[:len(boot)/2] }))
		}, []string{"corrupt"}},
		{"bootstrap of another image", "6", func(t *testing.T, l *layout) { l.useSample(t, "nm-sn-batch") }, []string{"no layer of the manifest"}},
		{"reference that is no digest", "6", func(t *testing.T, l *layout) {
			l.manifest.Layers[0].Annotations[testimage.AnnotationRef] = "latest"
			l.save(t)
		}, []string{testimage.AnnotationRef}},
		{"encrypted bootstrap layer", "6", func(t *testing.T, l *layout) {
			l.manifest.Layers[len(l.manifest.Layers)-1].MediaType += "+encrypted"
			l.save(t)
		}, []string{"encryption"}},
		{"chunk table and blob.meta disagree", "6", func(t *testing.T, l *layout) {
			l.changeBootstrap(t, func(name string, data []byte) []byte {
				if strings.HasSuffix(name, ".blob.meta") {
					data[8] ^= 1 // the compressed offset of the first chunk
				}
				return data
			})
		}, []string{"chunk table", "blob.meta", "container would read other data"}},
		{"damaged chunk", "6", func(t *testing.T, l *layout) { damageData(t, l) }, []string{"read etc/issue", "chunk"}},
		{"damaged chunk, v5", "5", func(t *testing.T, l *layout) { damageData(t, l) }, []string{"read etc/issue", "chunk"}},
		{"two bootstraps", "6", func(t *testing.T, l *layout) {
			l.manifest.Layers = append(l.manifest.Layers, l.manifest.Layers[len(l.manifest.Layers)-1])
			l.save(t)
		}, []string{"bootstrap"}},
		{"blob that no layer is", "6", func(t *testing.T, l *layout) {
			l.manifest.Layers = l.manifest.Layers[1:]
			l.save(t)
		}, []string{"no layer of the manifest"}},
		{"missing blob", "6", func(t *testing.T, l *layout) {
			require.NoError(t, os.Remove(l.path(l.manifest.Layers[0].Digest)))
		}, []string{l0}},
		{"truncated blob", "6", func(t *testing.T, l *layout) {
			require.NoError(t, os.Truncate(l.path(l.manifest.Layers[0].Digest), 1000))
		}, []string{l0}},
		{"altered bootstrap layer", "6", func(t *testing.T, l *layout) {
			flip(t, l.path(l.manifest.Layers[len(l.manifest.Layers)-1].Digest), 100)
		}, []string{"digest mismatch"}},
		{"altered config", "6", func(t *testing.T, l *layout) {
			flip(t, l.path(l.manifest.Config.Digest), 20)
		}, []string{"config", "digest mismatch"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			l := newLayout(t, test.version)
			test.damage(t, l)
			refused(t, []string{l.dir}, test.words...)
		})
	}
}

// l0 is what messages about the lowest layer say.
const l0 = "layer 1 of"

// damageData flips a bit in each of the first 100 KB of the lowest blob's data
// in place, as a failing disk does.
func damageData(t *testing.T, l *layout) {
	t.Helper()
	name := l.path(l.manifest.Layers[0].Digest)
	data, err := os.ReadFile(name)
	require.NoError(t, err)
	for i := 100; i < len(data)/2; i += 64 {
		data[i] ^= 0x10
	}
	require.NoError(t, os.WriteFile(name, data, 0o644))
}

func flip(t *testing.T, name string, at int) {
	t.Helper()
	data, err := os.ReadFile(name)
	require.NoError(t, err)
	data[at] ^= 1
	require.NoError(t, os.WriteFile(name, data, 0o644))
}

// TestRegistryRefuses are references that cannot be read.
func TestRegistryRefuses(t *testing.T) {
	locked := testregistry.Start(t, testregistry.WithHtpasswd("reader", "secret"))
	registry := testregistry.Start(t)
	repository := publish(t, registry, testimage.SecretCmd(t))
	t.Run("no such tag", func(t *testing.T) { refused(t, []string{repository + ":none"}, "not found") })
	t.Run("no such repository", func(t *testing.T) { refused(t, []string{registry.Host() + "/nobody/nothing:v6"}, "not found") })
	t.Run("no rights", func(t *testing.T) { refused(t, []string{locked.Host() + "/test/x:v6"}, "no access") })
	t.Run("wrong password", func(t *testing.T) {
		refused(t, []string{"--username", "reader", "--password", "wrong", locked.Host() + "/test/x:v6"}, "no access")
	})
	t.Run("not Nydus", func(t *testing.T) { refused(t, []string{"--require-nydus", repository + ":oci"}, "not a Nydus image") })
	t.Run("nobody listens", func(t *testing.T) { refused(t, []string{"127.0.0.1:1/test/x:v6"}, "127.0.0.1:1") })
	t.Run("not a reference", func(t *testing.T) { refused(t, []string{"UPPER/case:tag"}, "UPPER/case:tag") })
}

// TestFailingRegistry lets a registry fail in the middle of a scan.
func TestFailingRegistry(t *testing.T) {
	registry := testregistry.Start(t)
	publish(t, registry, testimage.Tiny(t))
	for _, test := range []struct {
		name  string
		words []string
		// after blobs requests, answer takes over.
		after  int64
		answer func(p *testregistry.Proxy, w http.ResponseWriter, r *http.Request)
	}{
		{"a blob is missing", []string{"missing from the registry"}, 2, func(_ *testregistry.Proxy, w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "gone", http.StatusNotFound)
		}},
		{"it dies", []string{"EOF"}, 2, func(*testregistry.Proxy, http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
		{"it stays broken", []string{"503"}, 3, func(_ *testregistry.Proxy, w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "broken", http.StatusServiceUnavailable)
		}},
		{"it sends other bytes", []string{"chunk"}, 0, lieAboutData},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			proxy := testregistry.CountingProxy(t, registry.Host())
			var blobs atomic.Int64
			proxy.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.Contains(r.URL.Path, "/blobs/") || blobs.Add(1) <= test.after {
					return false
				}
				test.answer(proxy, w, r)
				return true
			})
			refused(t, []string{proxy.Host() + "/test/tiny:v6"}, test.words...)
		})
	}
}

// lieAboutData answers as the registry does, but for ranges within a blob: these are
// zeros. Metadata lies at the end of its blob, or is all of it.
func lieAboutData(p *testregistry.Proxy, w http.ResponseWriter, r *http.Request) {
	real := httptest.NewRecorder()
	p.Forward(real, r)
	body := real.Body.Bytes()
	var first, last, size int
	_, err := fmt.Sscanf(real.Header().Get("Content-Range"), "bytes %d-%d/%d", &first, &last, &size)
	if real.Code == http.StatusPartialContent && (err != nil || last+1 < size) { // several ranges have none
		clear(body)
	}
	maps.Copy(w.Header(), real.Header())
	w.WriteHeader(real.Code)
	_, _ = w.Write(body)
}

// lie answers a range with as many zeros.
func lie(w http.ResponseWriter, r *http.Request) {
	span := strings.TrimPrefix(r.Header.Get("Range"), "bytes=")
	first, last, _ := strings.Cut(span, "-")
	from, _ := strconv.Atoi(first)
	to, _ := strconv.Atoi(last)
	w.Header().Set("Content-Range", "bytes "+span+"/*")
	w.Header().Set("Content-Length", strconv.Itoa(to-from+1))
	w.WriteHeader(http.StatusPartialContent)
	_, _ = w.Write(make([]byte, to-from+1))
}

// TestInterrupt ends a scan that waits for its registry.
func TestInterrupt(t *testing.T) {
	registry := testregistry.Start(t)
	publish(t, registry, testimage.Tiny(t))
	proxy := testregistry.CountingProxy(t, registry.Host())
	asked := make(chan struct{}, 100)
	proxy.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/blobs/") {
			return false
		}
		asked <- struct{}{}
		<-r.Context().Done()
		return true
	})
	cache := t.TempDir()
	p := start(t, "trivy-nydus", append(slices.Clone(scanFlags), "--cache-dir", cache, proxy.Host()+"/test/tiny:v6")...)
	<-asked
	require.NoError(t, p.Process.Signal(os.Interrupt))
	ended := make(chan result, 1)
	go func() { ended <- p.wait(t) }()
	select {
	case r := <-ended:
		assert.Equal(t, 130, r.code, r.stderr)
		assert.Empty(t, r.stdout)
		assertNothingCached(t, cache)
	case <-time.After(10 * time.Second):
		_ = p.Process.Kill()
		t.Fatal("the scan goes on")
	}
}

// TestTimeout gives up on a registry that does not answer.
func TestTimeout(t *testing.T) {
	registry := testregistry.Start(t)
	publish(t, registry, testimage.Tiny(t))
	proxy := testregistry.CountingProxy(t, registry.Host())
	proxy.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/blobs/") && !strings.HasPrefix(r.URL.Path, "/v2/db/") {
			return false
		}
		<-r.Context().Done()
		return true
	})
	refused(t, []string{"--timeout", "1s", proxy.Host() + "/test/tiny:v6"}, "--timeout")
	t.Run("the vulnerability database stalls", func(t *testing.T) {
		r := run(t, "trivy-nydus", "--cache-dir", t.TempDir(), "--scanners", "vuln", "--db-repository", proxy.Host()+"/db:2",
			"--skip-version-check", "--disable-telemetry", "--timeout", "1s", registry.Host()+"/test/tiny:v6")
		assert.Equal(t, 2, r.code)
		assert.Contains(t, r.stderr, "error: the scan took longer than 1s (--timeout)")
	})
}
