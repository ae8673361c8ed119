package nydusimage

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/blob"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

func TestManifestOverLimit(t *testing.T) {
	proxy := testregistry.CountingProxy(t, "127.0.0.1:1")
	proxy.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/manifests/") {
			w.Header().Set("Content-Type", string(types.OCIManifestSchema1))
			w.Write([]byte(`{"schemaVersion": 2}` + strings.Repeat(" ", maxManifest)))
		}
		return true
	})
	err := mustFail(t, proxy.Host()+"/image:tag", Options{}, ErrInvalid)
	assert.ErrorContains(t, err, "over the limit of 16777216")
}

// A blob whose descriptor is over its limit is not asked for.
func TestBlobOverLimit(t *testing.T) {
	for _, size := range []int64{-1, 101, 1 << 62} {
		where := &oneBlob{data: make([]byte, 100)}
		_, err := readBlob(t.Context(), where, v1.Descriptor{Size: size}, 100)
		assert.ErrorIs(t, err, ErrInvalid, "%d bytes", size)
		assert.Zero(t, where.asked)
	}
}

// A store that ends with an error closes what it has opened for that.
func TestReadBlobCloses(t *testing.T) {
	where := &oneBlob{data: []byte("content")}
	_, err := readBlob(t.Context(), where, v1.Descriptor{Size: 7, Digest: v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("0", 64)}}, 100)
	assert.ErrorIs(t, err, blob.ErrDigest)
	_, err = readBlob(t.Context(), where, v1.Descriptor{Size: 7, Digest: v1.Hash{Algorithm: "sha512", Hex: strings.Repeat("0", 128)}}, 100)
	assert.ErrorIs(t, err, ErrInvalid)
	assert.Equal(t, 2, where.closed)
}

type oneBlob struct {
	data          []byte
	asked, closed int
}

func (o *oneBlob) child(context.Context, v1.Descriptor) (*document, error) { return nil, ErrNotFound }
func (o *oneBlob) blob(v1.Descriptor) (blob.Source, error)                 { o.asked++; return o, nil }
func (o *oneBlob) origin() string                                          { return "" }
func (o *oneBlob) Size() int64                                             { return int64(len(o.data)) }
func (o *oneBlob) Close() error                                            { o.closed++; return nil }
func (o *oneBlob) ReadRange(_ context.Context, p []byte, off int64) error {
	copy(p, o.data[off:])
	return nil
}

// A Nydus image whose config is said to be larger than any is not read.
func TestConfigOverLimit(t *testing.T) {
	registry := testregistry.Start(t)
	testimage.Push(t, registry.Host()+"/image:tag", fixture(t))
	manifest := must(fixture(t).Manifest())
	proxy := testregistry.CountingProxy(t, registry.Host())
	proxy.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/manifests/") {
			return false
		}
		raw := strings.Replace(string(must(fixture(t).RawManifest())), `"size":`+strconv.FormatInt(manifest.Config.Size, 10), `"size":`+strconv.Itoa(maxConfig+1), 1)
		w.Header().Set("Content-Type", string(types.OCIManifestSchema1))
		w.Write([]byte(raw))
		return true
	})
	err := mustFail(t, proxy.Host()+"/image:tag", Options{}, ErrInvalid)
	assert.ErrorContains(t, err, "read the config")
	assert.ErrorContains(t, err, "over the limit")
}

type member struct {
	name    string
	content []byte
}

func archiveOf(t *testing.T, members ...member) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		require.NoError(t, w.WriteHeader(&tar.Header{Name: m.name, Size: int64(len(m.content)), Mode: 0o644}))
		_, err := w.Write(m.content)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

// linked is an archive of a bootstrap, of another file, and of a link to that in
// the bootstrap's place.
func linked(t *testing.T, kind byte, bootstrap member) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	_, err := b.Write(bytes.TrimRight(archiveOf(t, bootstrap, member{"image/evil", []byte("evil")}), "\x00"))
	require.NoError(t, err)
	b.Write(make([]byte, -b.Len()&511))
	require.NoError(t, w.WriteHeader(&tar.Header{Name: bootstrap.name, Linkname: "image/evil", Typeflag: kind}))
	require.NoError(t, w.Close())
	return b.Bytes()
}

func many(n int) []member {
	members := make([]member, n)
	for i := range members {
		members[i].name = fmt.Sprint("image/", i)
	}
	return members
}

// sparse is an archive of one file of size bytes of which none is stored: a
// hole, in the form of GNU tar's PAX version 0.1.
func sparse(name string, size int64) []byte {
	var records strings.Builder
	for _, r := range [][2]string{
		{"GNU.sparse.major", "0"}, {"GNU.sparse.minor", "1"},
		{"GNU.sparse.size", fmt.Sprint(size)}, {"GNU.sparse.numblocks", "0"}, {"GNU.sparse.map", ""}, {"GNU.sparse.name", name},
	} {
		line := fmt.Sprintf(" %s=%s\n", r[0], r[1])
		n := len(line) + 1
		for len(strconv.Itoa(n))+len(line) != n {
			n++
		}
		records.WriteString(strconv.Itoa(n) + line)
	}
	header := func(typeflag byte, size int) []byte {
		b := make([]byte, 512)
		copy(b, "sparse")
		copy(b[100:], "0000644\x000000000\x000000000\x00")
		copy(b[124:], fmt.Sprintf("%011o\x0000000000000\x00        ", size))
		b[156] = typeflag
		copy(b[257:], "ustar\x0000")
		sum := 0
		for _, c := range b {
			sum += int(c)
		}
		copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
		return b
	}
	records512 := make([]byte, (records.Len()+511)/512*512)
	copy(records512, records.String())
	return bytes.Join([][]byte{header('x', records.Len()), records512, header('0', 0), make([]byte, 1024)}, nil)
}

func TestUnpackBootstrapLayer(t *testing.T) {
	bootstrap := member{fileBootstrap, bytes.Repeat([]byte("b"), 1000)}
	meta := func(size int) member { return member{"image/abc.blob.meta", make([]byte, size)} }
	big := make([]byte, 16<<10)
	for _, c := range []struct {
		name    string
		archive []byte
		err     error // nil for none
		says    string
	}{
		{"as converters make it", archiveOf(t, meta(100), bootstrap), nil, ""},
		{"with other files", archiveOf(t, member{"README", []byte("x")}, bootstrap), nil, ""},
		{"the old name", archiveOf(t, member{"image.boot", bootstrap.content}), nil, ""},
		{"with dots", archiveOf(t, member{"./image/image.boot", bootstrap.content}), nil, ""},
		{"a bootstrap over the limit", archiveOf(t, member{fileBootstrap, big}), rafs.ErrUnsupported, "what it unpacks to: over the bound of 16384 bytes"},
		{"files that are over it together", archiveOf(t, bootstrap, meta(8<<10), member{"image/def.blob.meta", make([]byte, 8<<10)}), rafs.ErrUnsupported, "what it unpacks to: over the bound of 16384 bytes"},
		{"another file over the limit", archiveOf(t, member{"README", big}, bootstrap), rafs.ErrUnsupported, "what it unpacks to: over the bound of 16384 bytes"},
		{"a hole over the limit", sparse(fileBootstrap, 1<<40), rafs.ErrUnsupported, "what it unpacks to: over the bound of 16384 bytes"},
		{"two bootstraps", archiveOf(t, bootstrap, bootstrap), ErrInvalid, "it holds two bootstraps"},
		{"none", archiveOf(t, meta(100)), ErrInvalid, "it holds no image/image.boot"},
		{"nothing", nil, ErrInvalid, "it holds no image/image.boot"},
		{"two bootstraps, one spelled in another way", archiveOf(t, bootstrap, member{"/image//image.boot", []byte("x")}), ErrInvalid, "it holds two bootstraps"},
		{"two bootstraps, one by a detour", archiveOf(t, bootstrap, member{"image/x/../image.boot", []byte("x")}), ErrInvalid, "leads upwards"},
		{"two bootstraps, one of old", archiveOf(t, bootstrap, member{"image.boot", []byte("x")}), ErrInvalid, "it holds two bootstraps"},
		{"two tables of one blob", archiveOf(t, bootstrap, meta(1), member{"image/./abc.blob.meta", []byte("x")}), ErrInvalid, "twice"},
		{"a whiteout", archiveOf(t, bootstrap, member{"image/.wh.image.boot", nil}), ErrInvalid, "whiteout"},
		{"a symbolic link", linked(t, tar.TypeSymlink, bootstrap), ErrInvalid, "neither a file nor a folder"},
		{"a hard link", linked(t, tar.TypeLink, bootstrap), ErrInvalid, "neither a file nor a folder"},
		{"a thousand files", archiveOf(t, many(maxArchived+1)...), rafs.ErrUnsupported, "what it unpacks to"},
		{"half of it", archiveOf(t, bootstrap)[:700], rafs.ErrCorrupt, "unpack it"},
		{"no archive", bytes.Repeat([]byte("noise"), 1000), rafs.ErrCorrupt, "unpack it"},
		{"data elsewhere", archiveOf(t, bootstrap, member{fileBackend, []byte("{}")}), nil, ""},
		{"data elsewhere, over the limit", archiveOf(t, bootstrap, member{fileBackend, big}), rafs.ErrUnsupported, "what it unpacks to: over the bound of 16384 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, err := unpackBootstrapLayer(bytes.NewReader(c.archive), 16<<10)
			if c.err != nil {
				assert.ErrorIs(t, err, c.err)
				assert.ErrorContains(t, err, c.says)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, bootstrap.content, b.File)
			assert.Equal(t, c.name == "data elsewhere", b.Backend != nil)
		})
	}
	// The hole is one: else the case above would prove nothing.
	files := tar.NewReader(bytes.NewReader(sparse(fileBootstrap, 1<<40)))
	h, err := files.Next()
	require.NoError(t, err)
	assert.Equal(t, fileBootstrap, h.Name)
	assert.Equal(t, int64(1<<40), h.Size)
	assert.Equal(t, byte(tar.TypeReg), h.Typeflag)
	n, err := io.CopyN(io.Discard, files, 1<<20)
	assert.NoError(t, err)
	assert.Equal(t, int64(1<<20), n)
}

func TestUncompressed(t *testing.T) {
	plain := archiveOf(t, member{fileBootstrap, []byte("b")})
	var gz bytes.Buffer
	w := gzip.NewWriter(&gz)
	_, err := w.Write(plain)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	for name, data := range map[string][]byte{"plain": plain, "gzip": gz.Bytes()} {
		r, err := uncompressed(data)
		require.NoError(t, err, name)
		got, err := io.ReadAll(r)
		require.NoError(t, err, name)
		assert.Equal(t, plain, got, name)
		require.NoError(t, r.Close())
	}
	for name, data := range map[string][]byte{"gzip": gz.Bytes()[:5], "zstd": {0x28, 0xb5, 0x2f, 0xfd, 0xff, 0xff}} {
		r, err := uncompressed(data)
		if err == nil {
			_, err = unpackBootstrapLayer(r, 1<<20)
		}
		assert.ErrorIs(t, err, rafs.ErrCorrupt, name)
	}
}

func TestEncryptedBootstrapLayer(t *testing.T) {
	where := &oneBlob{}
	_, err := (&Image{store: where}).readBootstrap(t.Context(), v1.Descriptor{MediaType: "application/vnd.oci.image.layer.v1.tar+gzip+encrypted"})
	assert.ErrorIs(t, err, ErrInvalid) // no annotation holds its key
	assert.Zero(t, where.asked)
}

func TestSplitLayers(t *testing.T) {
	digest := v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("0", 64)}
	data := v1.Descriptor{MediaType: MediaTypeBlob, Digest: digest, Size: 1}
	bootstrap := v1.Descriptor{Digest: digest, Size: 1, Annotations: map[string]string{AnnotationBootstrap: "true"}}
	change := func(d v1.Descriptor, f func(*v1.Descriptor)) v1.Descriptor { f(&d); return d }
	for _, c := range []struct {
		name   string
		layers []v1.Descriptor
		says   string // "" for no error
	}{
		{"as converters make it", []v1.Descriptor{data, data, bootstrap}, ""},
		{"no data", []v1.Descriptor{bootstrap}, ""},
		{"no bootstrap", []v1.Descriptor{data}, "layer 1 of 1: the last layer, and no other, must be the bootstrap"},
		{"a bootstrap before the end", []v1.Descriptor{bootstrap, data}, "layer 1 of 2"},
		{"two bootstraps", []v1.Descriptor{bootstrap, bootstrap}, "layer 1 of 2"},
		{"an OCI layer", []v1.Descriptor{{MediaType: types.OCILayer, Digest: digest}, bootstrap}, "is not marked as a Nydus blob"},
		{"another digest", []v1.Descriptor{change(data, func(d *v1.Descriptor) { d.Digest.Algorithm = "sha512" }), bootstrap}, "only sha256 is read"},
		{"a negative size", []v1.Descriptor{change(data, func(d *v1.Descriptor) { d.Size = -1 }), bootstrap}, "layer 1 of 2 has -1 bytes"},
	} {
		layers, last, err := splitLayers(&v1.Manifest{Layers: c.layers})
		if c.says != "" {
			assert.ErrorIs(t, err, ErrInvalid, c.name)
			assert.ErrorContains(t, err, c.says, c.name)
			continue
		}
		assert.NoError(t, err, c.name)
		assert.Len(t, layers, len(c.layers)-1, c.name)
		assert.Equal(t, bootstrap, last, c.name)
	}
}

func TestMediaType(t *testing.T) {
	for _, c := range []struct {
		declared types.MediaType
		document string
		want     types.MediaType
	}{
		{types.OCIManifestSchema1, `{"mediaType": "application/vnd.oci.image.index.v1+json"}`, types.OCIManifestSchema1},
		{types.DockerManifestSchema1, `{"layers": []}`, types.DockerManifestSchema1},
		{"application/json", `{"mediaType": "application/vnd.oci.image.index.v1+json", "layers": []}`, types.OCIImageIndex},
		{"text/plain", `{"config": {}, "layers": []}`, types.OCIManifestSchema1},
		{"", `{"manifests": []}`, types.OCIImageIndex},
		{"", `{"manifests": [], "layers": []}`, ""}, // both: neither can be trusted
		{"text/html", `<html>`, "text/html"},
	} {
		assert.Equal(t, c.want, mediaType(c.declared, []byte(c.document)), "%s declared %q", c.document, c.declared)
	}
}
