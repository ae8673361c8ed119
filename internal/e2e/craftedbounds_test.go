package e2e

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
)

// Small images that stand for a lot.

// repeated is a file of count chunks which all are the same 16 MiB of a text, stored
// in a kilobyte.
func repeated(name string, count int) (f testimage.CraftedFile, stored []byte) {
	const size = 16 << 20
	content := bytes.Repeat([]byte("a line of text, of no interest\n\n"), size/32)
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	stored = encoder.EncodeAll(content, nil)
	sum := sha256.Sum256(content)
	f = testimage.CraftedFile{Path: name, Size: uint64(count) * size}
	for k := range count {
		f.Chunks = append(f.Chunks, testimage.CraftedChunk{
			Flags: 1, Stored: uint32(len(stored)), Size: size, FileOffset: uint64(k) * size, Digest: sum,
		})
	}
	return f, stored
}

// TestCraftedOverlap: chunks that lie at one place make a terabyte of some
// kilobytes. What analyzers may read of a file is bounded, and the user raises that.
func TestCraftedOverlap(t *testing.T) {
	t.Parallel()
	f, stored := repeated("srv/app/.env", 1<<16) // 1 TiB
	require.Less(t, len(stored), 4096)
	dir := craftedLayout(t, testimage.Crafted{Merged: []testimage.CraftedFile{f}, Raw: stored})
	args, output := scanArguments(t, dir, "--max-file-size", "10MB")
	refusedCrafted(t, []string{"read srv/app/.env", "over the bound of 10000000 bytes", "raise --max-file-size (10MB)"}, args...)
	assert.NoFileExists(t, output)
	r := bounded(t, "inspect", "--cache-dir", t.TempDir(), dir, "stats")
	assert.Zero(t, r.code, r.stderr)
	for _, command := range [][]string{{"cat", "/srv/app/.env"}, {"export", "/", "-o", "-"}} {
		r := bounded(t, append([]string{"inspect", "--cache-dir", t.TempDir(), dir}, command...)...)
		assert.Equal(t, 2, r.code, command)
		assert.Contains(t, r.stderr, "raise --max-output-size")
	}
	// A check decodes what lies at one place once, and compares no content of files whose sizes differ.
	oci := t.TempDir()
	testimage.WriteLayout(t, oci, map[string]any{"oci": testimage.BuildOCI(t, testimage.Spec{Name: "overlap", Layers: []testimage.Layer{{testimage.Text("srv/app/.env", "x")}}})})
	r = bounded(t, "check", "--cache-dir", t.TempDir(), "--data", "full", oci+":oci", dir)
	assert.Equal(t, 1, r.code, r.stdout)

	small, stored := repeated("srv/app/.env", 1) // 16 MiB
	dir = craftedLayout(t, testimage.Crafted{Merged: []testimage.CraftedFile{small}, Raw: stored})
	args, _ = scanArguments(t, dir, "--max-file-size", "10MB")
	refusedCrafted(t, []string{"--max-file-size"}, args...)
	args, _ = scanArguments(t, dir, "--max-file-size", "20MB")
	assert.Zero(t, bounded(t, args...).code)
}

// TestCraftedHole: a file that is a hole of 2^62 bytes. Package databases are copied
// to temporary files, which are bounded.
func TestCraftedHole(t *testing.T) {
	t.Parallel()
	for name, flag := range map[string]string{"var/lib/dpkg/status": "--max-temp-size"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := craftedLayout(t, testimage.Crafted{Merged: []testimage.CraftedFile{{Path: name, Size: 1 << 62, Hole: true}}})
			args, output := scanArguments(t, dir, "--max-file-size", "50MB")
			refusedCrafted(t, []string{name, "raise " + flag}, args...)
			assert.NoFileExists(t, output)
			r := bounded(t, "inspect", "--cache-dir", t.TempDir(), dir, "stat", "/"+name)
			assert.Zero(t, r.code, r.stderr)
			for _, command := range [][]string{{"cat", "/" + name}, {"export", "/", "-o", "-"}, {"--max-output-size", "2MB", "cat", "--range", "0-2999999", "/" + name}} {
				r := bounded(t, append([]string{"inspect", "--cache-dir", t.TempDir(), dir}, command...)...)
				assert.Equal(t, 2, r.code, command)
				assert.Empty(t, r.stdout)
				assert.Contains(t, r.stderr, "raise --max-output-size")
			}
			r = bounded(t, "inspect", "--cache-dir", t.TempDir(), "--max-output-size", "4MB", dir, "cat", "--range", "0-2999999", "/"+name)
			assert.Zero(t, r.code, r.stderr)
			assert.Len(t, r.stdout, 3_000_000)
		})
	}
	t.Run("2^63", func(t *testing.T) {
		refusedByAll(t, craftedLayout(t, testimage.Crafted{Merged: []testimage.CraftedFile{{Path: "x", Size: 1 << 63, Hole: true}}}), "inode size of 9223372036854775808 bytes")
	})
}

// TestCraftedNameCount: more names than the user allows, and as many.
func TestCraftedNameCount(t *testing.T) {
	t.Parallel()
	files := []testimage.CraftedFile{secretText("srv/.env")}
	for i := range 100 {
		files = append(files, testimage.CraftedText(fmt.Sprint("many/", i), "x"))
	}
	dir := craftedLayout(t, testimage.Crafted{Layers: [][]testimage.CraftedFile{files}, Merged: files})
	for allowed, code := range map[string]int{"50": 2, "200": 0} {
		args, _ := scanArguments(t, dir, "--max-files", allowed)
		commands := [][]string{args, {"inspect", "--cache-dir", t.TempDir(), "--max-files", allowed, dir, "stats"}}
		for _, command := range commands {
			r := bounded(t, command...)
			assert.Equal(t, code, r.code, "%v: %s", command, r.stderr)
			assert.Equal(t, code == 2, strings.Contains(r.stderr, "raise --max-files (50)"), r.stderr)
		}
	}
}

// TestCraftedPaths: a megabyte of bootstrap whose paths would take gigabytes: many
// names below a deep chain of folders.
func TestCraftedPaths(t *testing.T) {
	t.Parallel()
	deep := strings.TrimSuffix(strings.Repeat("dddddddddddd/", 600), "/")
	var files []testimage.CraftedFile
	for i := range 70_000 { // 550 MB of paths
		files = append(files, testimage.CraftedFile{Path: deep + fmt.Sprintf("/%05d", i)})
	}
	refusedByAll(t, craftedLayout(t, testimage.Crafted{Merged: files}), "the tree's paths, of 256 bytes on average", "raise --max-files")
}

// TestCraftedDeep: a path of 100,000 components.
func TestCraftedDeep(t *testing.T) {
	t.Parallel()
	deep := strings.TrimSuffix(strings.Repeat("d/", 100_000), "/")
	refusedByAll(t, craftedLayout(t, testimage.Crafted{Merged: []testimage.CraftedFile{testimage.CraftedDir(deep)}}), "its path has")
}

// TestCraftedMetadata: a bootstrap layer that unpacks to more than it may.
func TestCraftedMetadata(t *testing.T) {
	t.Parallel()
	zeros := testimage.CraftedEntry{Content: make([]byte, 60_000_000)}
	zeros.Header.Name = "image/" + strings.Repeat("0", 64) + ".blob.meta"
	dir := craftedLayout(t, testimage.Crafted{Merged: []testimage.CraftedFile{secretText("srv/.env")}, Archive: []testimage.CraftedEntry{zeros}})
	for allowed, code := range map[string]int{"50MB": 2, "70MB": 0} {
		args, _ := scanArguments(t, dir, "--max-metadata-size", allowed)
		for _, command := range [][]string{args, {"inspect", "--cache-dir", t.TempDir(), "--max-metadata-size", allowed, dir, "stats"}} {
			r := bounded(t, command...)
			assert.Equal(t, code, r.code, "%v: %s", command, r.stderr)
			assert.Equal(t, code == 2, strings.Contains(r.stderr, "raise --max-metadata-size (50MB)"), r.stderr)
		}
		r := bounded(t, "check", "--cache-dir", t.TempDir(), "--max-metadata-size", allowed, dir)
		assert.Equal(t, code == 2, strings.Contains(r.stdout+r.stderr, "over the bound of 50000000 bytes"), r.stdout+r.stderr)
		if code == 2 {
			refusedCrafted(t, []string{"--max-metadata-size"}, "mount", "--cache-dir", t.TempDir(), "--max-metadata-size", allowed, dir, t.TempDir())
		}
	}
}

// TestCraftedLayers checks an OCI image with more entries than are allowed. The flag that
// bounds a bootstrap bounds these, too.
func TestCraftedLayers(t *testing.T) {
	t.Parallel()
	var many testimage.Layer
	for i := range 3000 {
		many = append(many, testimage.Text(fmt.Sprintf("srv/%d", i), ""))
	}
	source := t.TempDir()
	testimage.WriteLayout(t, source, map[string]any{"oci": testimage.BuildOCI(t, testimage.Spec{Name: "many", Layers: []testimage.Layer{many}})})
	target := craftedLayout(t, testimage.Crafted{Merged: []testimage.CraftedFile{secretText("srv/.env")}})
	for allowed, code := range map[string]int{"500kB": 2, "1MB": 1} {
		r := bounded(t, "check", "--cache-dir", t.TempDir(), "--max-metadata-size", allowed, source+":oci", target)
		assert.Equal(t, code, r.code, r.stdout+r.stderr)
		assert.Equal(t, code == 2, strings.Contains(r.stdout, "over the bound of 500000 bytes"), r.stdout)
		assert.Equal(t, code == 2, strings.Contains(r.stdout+r.stderr, "raise --max-metadata-size (500kB)"), r.stdout+r.stderr)
	}
}

// canary is a server that nobody may speak to. Its address is one of this host.
func canary(t *testing.T) (address string, asked func() int64) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var count atomic.Int64
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			count.Add(1)
			connection.Close()
		}
	}()
	t.Cleanup(func() { listener.Close() })
	return listener.Addr().String(), count.Load
}

// TestCraftedBackend: an image that names where its data lies: on this host, in a
// folder of it, or at an address that is private, link-local or a cloud's metadata
// service. Nobody goes there.
func TestCraftedBackend(t *testing.T) {
	address, asked := canary(t)
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY"} {
		t.Setenv(name, "http://"+address) // it hears of other hosts, too
	}
	for name, backend := range map[string]string{
		"this host":  fmt.Sprintf(`{"type": "registry", "config": {"scheme": "http", "host": %q, "repo": "x"}}`, address),
		"oss":        fmt.Sprintf(`{"type": "oss", "config": {"scheme": "http", "endpoint": %q, "bucket_name": "x"}}`, address),
		"metadata":   `{"backends": [{"type": "registry", "config": {"scheme": "http", "host": "169.254.169.254", "repo": "latest"}}]}`,
		"private":    `{"type": "s3", "config": {"endpoint": "10.0.0.1", "bucket_name": "x"}}`,
		"link-local": `{"type": "registry", "config": {"host": "[fe80::1]:80"}}`,
		"a folder":   `{"type": "localfs", "config": {"dir": "/etc"}}`,
		"no JSON":    "\x00",
	} {
		t.Run(name, func(t *testing.T) {
			entry := testimage.CraftedEntry{Content: []byte(backend)}
			entry.Header.Name = "image/backend.json"
			dir := craftedLayout(t, testimage.Crafted{Merged: []testimage.CraftedFile{secretText("srv/.env")}, Archive: []testimage.CraftedEntry{entry}})
			args, output := scanArguments(t, dir)
			refusedCrafted(t, []string{"backend of its own"}, args...)
			args, _ = scanArguments(t, dir, "--mount", "nydusd")
			refusedCrafted(t, []string{"backend of its own"}, args...)
			assert.NoFileExists(t, output)
			refusedCrafted(t, []string{"backend of its own"}, "inspect", "--cache-dir", t.TempDir(), dir, "cat", "/srv/.env")
			refusedCrafted(t, []string{"backend of its own"}, "mount", "--cache-dir", t.TempDir(), dir, t.TempDir())
			refusedCrafted(t, []string{"a backend outside of the registry"}, "check", "--data", "full", "--cache-dir", t.TempDir(), dir)
			assert.Zero(t, asked(), "requests")
		})
	}
	t.Run("urls", func(t *testing.T) {
		dir := craftedLayout(t, testimage.Crafted{Merged: []testimage.CraftedFile{secretText("srv/.env")}, Edit: func(m *v1.Manifest) {
			for i := range m.Layers {
				m.Layers[i].URLs = []string{"http://" + address + "/blob", "file:///etc/shadow"}
			}
			m.Config.URLs = m.Layers[0].URLs
		}})
		assert.Equal(t, []string{"/srv/.env"}, secretPaths(scanCrafted(t, dir)))
		bounded(t, "check", "--data", "full", "--cache-dir", t.TempDir(), dir)
	})
	assert.Zero(t, asked(), "the image's word was taken for where to ask")
	refusedCrafted(t, nil, "inspect", "--cache-dir", t.TempDir(), "registry.test/image:tag", "stats")
	assert.NotZero(t, asked(), "it hears of whom the user names")
}

// TestCraftedLinks: symbolic links that lead out of the image lead nowhere.
func TestCraftedLinks(t *testing.T) {
	t.Parallel()
	dir := craftedLayout(t, testimage.Crafted{Merged: []testimage.CraftedFile{
		testimage.CraftedLink("etc", "/etc"), testimage.CraftedLink("up", "../../../../../../etc"), testimage.CraftedLink("loop", "loop"),
		testimage.CraftedLink("shadow", "/etc/shadow"), secretText("srv/.env"),
	}})
	assert.Equal(t, []string{"/srv/.env"}, secretPaths(scanCrafted(t, dir)))
	for _, path := range []string{"/etc/passwd", "/up/passwd", "/shadow", "/loop", "/../../../etc/passwd"} {
		r := bounded(t, "inspect", "--cache-dir", t.TempDir(), dir, "cat", path)
		assert.Equal(t, 2, r.code, path)
		assert.Empty(t, r.stdout, path)
	}
	out := filepath.Join(t.TempDir(), "x.tar")
	r := bounded(t, "inspect", "--cache-dir", t.TempDir(), dir, "export", "/", "--output", out)
	require.Zero(t, r.code, r.stderr)
	assert.Equal(t, map[string]string{
		"./": "", "./etc": "-> /etc", "./up": "-> ../../../../../../etc", "./loop": "-> loop", "./shadow": "-> /etc/shadow",
		"./srv/": "", "./srv/.env": string(secretText("srv/.env").Data),
	}, archived(t, out))
}

// archived lists a tar archive: content of files, targets of links.
func archived(t *testing.T, file string) map[string]string {
	t.Helper()
	archive, err := os.Open(file)
	require.NoError(t, err)
	defer archive.Close()
	entries := make(map[string]string)
	for r := tar.NewReader(archive); ; {
		h, err := r.Next()
		if err == io.EOF {
			return entries
		}
		require.NoError(t, err)
		content, err := io.ReadAll(r)
		require.NoError(t, err)
		entries[h.Name] = string(content)
		if h.Typeflag != tar.TypeReg && h.Typeflag != tar.TypeDir {
			entries[h.Name] += "-> " + h.Linkname
		}
	}
}

// TestCraftedRanges: chunks that lie outside the blob, or that are larger than any.
func TestCraftedRanges(t *testing.T) {
	t.Parallel()
	content := secretText("x").Data
	sum := sha256.Sum256(content)
	for name, chunk := range map[string]testimage.CraftedChunk{
		"behind the blob":  {Offset: 1 << 20, Stored: 98, Size: 98},
		"far away":         {Offset: 1 << 63, Stored: 98, Size: 98},
		"at the very end":  {Offset: 1<<64 - 1, Stored: 98, Size: 98},
		"stored in 4 GiB":  {Flags: 1, Stored: 1<<32 - 1, Size: 98},
		"of another blob":  {Blob: 7, Stored: 98, Size: 98},
		"with 16 MiB more": {Flags: 1, Stored: 98, Size: 16<<20 + 1},
		"of no size":       {Stored: 98},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			chunk.Digest = sum
			f := testimage.CraftedFile{Path: "srv/.env", Size: uint64(chunk.Size), Chunks: []testimage.CraftedChunk{chunk}}
			if chunk.Size == 0 {
				f.Size = 98
			}
			dir := craftedLayout(t, testimage.Crafted{Merged: []testimage.CraftedFile{f}, Raw: content})
			args, output := scanArguments(t, dir)
			refusedCrafted(t, nil, args...)
			assert.NoFileExists(t, output)
			r := bounded(t, "check", "--data", "full", "--cache-dir", t.TempDir(), dir)
			assert.NotZero(t, r.code, r.stdout)
			refusedCrafted(t, nil, "inspect", "--cache-dir", t.TempDir(), dir, "cat", "/srv/.env")
		})
	}
	t.Run("over the bootstrap of the layer", func(t *testing.T) {
		// The bytes are there, and are read as what they are: bytes of the blob.
		secret := secretText("srv/.env")
		stored := testimage.CraftedFile{Path: "inside", Mode: 0o120777, Target: string(bytes.ReplaceAll(secret.Data, []byte("\n"), []byte(" ")))}
		honest := testimage.Crafted{Layers: [][]testimage.CraftedFile{{stored}}, Merged: []testimage.CraftedFile{stored}}
		blob := blobOf(t, testimage.Craft(t, honest))
		at := bytes.Index(blob, []byte(stored.Target))
		require.Positive(t, at)
		chunk := testimage.CraftedChunk{Offset: uint64(at), Stored: uint32(len(stored.Target)), Size: uint32(len(stored.Target)), Digest: sha256.Sum256([]byte(stored.Target))}
		honest.Merged = append(honest.Merged, testimage.CraftedFile{Path: "srv/.env", Size: uint64(chunk.Size), Chunks: []testimage.CraftedChunk{chunk}})
		assert.Equal(t, []string{"/srv/.env"}, secretPaths(scanCrafted(t, craftedLayout(t, honest))))
	})
}

// TestCraftedLimits: chunks of the largest size, number and place that there can be, and of the
// next. Without counts of chunks in the blob table, as here, numbers and places of RAFS v5
// locate nothing: whatever they are, they cost nothing.
func TestCraftedLimits(t *testing.T) {
	t.Parallel()
	largest, stored := repeated("srv/app/.env", 1)
	for name, c := range map[string]struct {
		change func(*testimage.CraftedChunk)
		code   int
	}{
		"the largest":          {func(*testimage.CraftedChunk) {}, 0},
		"a byte more":          {func(c *testimage.CraftedChunk) { c.Size++ }, 2},
		"the last number":      {func(c *testimage.CraftedChunk) { c.Index = 1<<24 - 1 }, 0},
		"the number after it":  {func(c *testimage.CraftedChunk) { c.Index = 1 << 24 }, 0},
		"the largest of all":   {func(c *testimage.CraftedChunk) { c.Index = 1<<32 - 1 }, 0},
		"at the last place":    {func(c *testimage.CraftedChunk) { c.Place = 1<<64 - 16<<20 }, 0},
		"stored in 18 MiB + 1": {func(c *testimage.CraftedChunk) { c.Stored = 18<<20 + 1 }, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := largest
			f.Chunks = []testimage.CraftedChunk{largest.Chunks[0]}
			c.change(&f.Chunks[0])
			f.Size = uint64(f.Chunks[0].Size)
			args, output := scanArguments(t, craftedLayout(t, testimage.Crafted{Merged: []testimage.CraftedFile{f}, Raw: stored}), "--max-file-size", "20MB")
			r := bounded(t, args...)
			assert.Equal(t, c.code, r.code, r.stderr)
			if c.code != 0 {
				assert.NoFileExists(t, output)
			}
		})
	}
}

// blobOf returns the lowest blob of an image.
func blobOf(t *testing.T, image v1.Image) []byte {
	t.Helper()
	layers, err := image.Layers()
	require.NoError(t, err)
	r, err := layers[0].Compressed()
	require.NoError(t, err)
	defer r.Close()
	var b bytes.Buffer
	_, err = b.ReadFrom(r)
	require.NoError(t, err)
	return b.Bytes()
}

// TestCraftedBlobs: 254 blobs, all in use.
func TestCraftedBlobs(t *testing.T) {
	t.Parallel()
	const count = 254
	c := testimage.Crafted{Layers: make([][]testimage.CraftedFile, count), Layer: map[string]int{}}
	for i := range count {
		f := secretText(fmt.Sprintf("srv/%03d.env", i))
		c.Layers[i] = []testimage.CraftedFile{f}
		c.Merged, c.Layer[f.Path] = append(c.Merged, f), i
	}
	assert.Len(t, secretPaths(scanCrafted(t, craftedLayout(t, c))), count)
}

// TestCraftedEndlessLayer: some megabytes of an OCI layer that decompress to 64 GiB. What is
// in them is hashed, not kept, until the time is up.
func TestCraftedEndlessLayer(t *testing.T) {
	t.Parallel()
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest))
	require.NoError(t, err)
	var header bytes.Buffer
	require.NoError(t, tar.NewWriter(&header).WriteHeader(&tar.Header{Name: "srv/.env", Mode: 0o644, Size: 64 << 30, Format: tar.FormatGNU}))
	layer := encoder.EncodeAll(header.Bytes(), nil)
	zeros := encoder.EncodeAll(make([]byte, 128<<20), nil)
	layer = append(layer, bytes.Repeat(zeros, 64<<30/(128<<20))...)
	require.Less(t, len(layer), 16<<20)
	oci, err := mutate.Append(testimage.BuildOCI(t, testimage.SecretCmd(t)), mutate.Addendum{Layer: static.NewLayer(layer, types.OCILayerZStd)})
	require.NoError(t, err)
	dir := t.TempDir()
	testimage.WriteLayout(t, dir, map[string]any{"oci": oci, "nydus": testimage.Craft(t, testimage.Crafted{Merged: []testimage.CraftedFile{secretText("srv/.env")}})})
	r := bounded(t, "check", "--cache-dir", t.TempDir(), "--timeout", "3s", dir+":oci", dir+":nydus")
	assert.Equal(t, 2, r.code, r.stderr)
	assert.Contains(t, r.stderr, "took longer than 3s (--timeout)")
}
