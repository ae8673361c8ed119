package nydusimage

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/blob"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/mutate"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/ocicrypt"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// A memoryStore is a [store] of what is kept in memory, by digest.
type memoryStore map[string][]byte

func (s memoryStore) child(ctx context.Context, d v1.Descriptor) (*document, error) {
	raw, err := readBlob(ctx, s, d, maxManifest)
	if err != nil {
		return nil, err
	}
	d.MediaType = mediaType(d.MediaType, raw)
	return &document{Descriptor: d, raw: raw}, nil
}

func (s memoryStore) blob(d v1.Descriptor) (blob.Source, error) {
	data, ok := s[d.Digest.Hex]
	if !ok || int64(len(data)) != d.Size {
		return nil, fmt.Errorf("blob %s: %w: %w", d.Digest, blob.ErrIncomplete, blob.ErrMissing)
	}
	return memorySource(data), nil
}

func (s memoryStore) origin() string { return "" }

type memorySource []byte

func (s memorySource) Size() int64 { return int64(len(s)) }

func (s memorySource) ReadRange(_ context.Context, p []byte, off int64) error {
	copy(p, s[off:]) // panics outside
	return nil
}

// put stores data and makes a descriptor, as it stands in a document, vouch for it.
func (s memoryStore) put(data []byte, descriptor any) {
	digest := fmt.Sprintf("%x", sha256.Sum256(data))
	s[digest] = data
	if d, ok := descriptor.(map[string]any); ok {
		d["digest"], d["size"] = "sha256:"+digest, len(data)
	}
}

// vouched edits a document that is JSON; what is not stays as it is.
func vouched(raw []byte, edit func(map[string]any)) []byte {
	var document map[string]any
	if json.Unmarshal(raw, &document) != nil || document == nil {
		return raw
	}
	edit(document)
	edited, err := json.Marshal(document)
	if err != nil {
		return raw
	}
	return edited
}

// realForms are the forms of which real images are seeds.
func realForms() []string { return append(testimage.NewerForms(), "committed", "optimized", "oci") }

// FuzzImageDocuments opens images of any documents. With mend, digests and sizes in
// them are those of what they name, or nothing would be read after the first.
func FuzzImageDocuments(f *testing.F) {
	layout := `{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:00","size":1,
		"platform":{"architecture":"amd64","os":"linux"%s}},{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"sha256:00","size":1}]%s}`
	for k, tag := range realForms() {
		img := testimage.Newer(f, tag)
		manifest, err := img.RawManifest()
		require.NoError(f, err)
		config, err := img.RawConfigFile()
		require.NoError(f, err)
		layers, err := img.Layers()
		require.NoError(f, err)
		r, err := layers[len(layers)-1].Compressed()
		require.NoError(f, err)
		layer, err := io.ReadAll(r)
		require.NoError(f, err)
		for _, more := range [][2]string{{"", ""}, {`,"os.features":["nydus.remoteimage.v1"]`, `,"artifactType":"application/vnd.nydus.image.manifest.v1+json"`}} {
			f.Add(fmt.Appendf(nil, layout, more[0], more[1]), manifest, config, layer, true)
		}
		f.Add(manifest, manifest, config, layer, k%2 == 0)
	}
	f.Fuzz(func(t *testing.T, index, manifest, config, layer []byte, mend bool) {
		where := make(memoryStore)
		where.put(config, nil)
		where.put(layer, nil)
		if mend {
			manifest = vouched(manifest, func(m map[string]any) {
				where.put(config, m["config"])
				if layers, ok := m["layers"].([]any); ok && len(layers) > 0 {
					for _, l := range layers {
						where.put(layer, l)
					}
				}
			})
			index = vouched(index, func(m map[string]any) {
				if manifests, ok := m["manifests"].([]any); ok {
					for _, d := range manifests {
						where.put(manifest, d)
					}
				}
				if _, ok := m["config"]; ok { // the index is the manifest
					where.put(config, m["config"])
					if layers, ok := m["layers"].([]any); ok && len(layers) > 0 {
						where.put(layer, layers[len(layers)-1])
					}
				}
			})
		}
		where.put(manifest, nil)
		first, second := opened(t, where, index), opened(t, where, index)
		require.Equal(t, first, second, "opened twice")
	})
}

// opened opens an image and describes what came of it.
func opened(t *testing.T, where memoryStore, index []byte) string {
	t.Helper()
	sum := sha256.Sum256(index)
	doc := &document{Descriptor: v1.Descriptor{Digest: v1.Hash{Algorithm: "sha256", Hex: fmt.Sprintf("%x", sum)}, Size: int64(len(index))}, raw: index}
	doc.MediaType = mediaType("application/json", index)
	doc, err := selectManifest(t.Context(), where, doc, "target", &Options{}, preferNydus)
	if err != nil {
		requireKind(t, err)
		return err.Error()
	}
	image := &Image{store: where, limits: Limits{Metadata: 4 << 20}}
	if err := image.read(t.Context(), doc, "target"); err != nil {
		requireKind(t, err)
		return err.Error()
	}
	defer image.Close()
	require.Len(t, image.Layers, len(image.Manifest.Layers)-1)
	require.NotNil(t, image.Config)
	for _, l := range image.Layers {
		require.Equal(t, "sha256", l.Digest.Algorithm)
		require.GreaterOrEqual(t, l.Size, int64(0))
		require.NotEmpty(t, l.DiffID)
	}
	bootstrap, err := image.Bootstrap(t.Context())
	if err != nil {
		requireKind(t, err)
		return err.Error()
	}
	return fmt.Sprint(len(image.Layers), len(bootstrap.File), bootstrap.Tree.Superblock(), len(bootstrap.Metas), len(bootstrap.Backend))
}

// requireKind fails if an error is none that the command line has a hint for.
func requireKind(t *testing.T, err error) {
	t.Helper()
	var plain *NotNydusError
	if errors.As(err, &plain) {
		return
	}
	for _, kind := range []error{ErrInvalid, ErrNotFound, ErrPlatform, blob.ErrIncomplete, blob.ErrDigest, rafs.ErrCorrupt, rafs.ErrUnsupported, ocicrypt.ErrKey} {
		if errors.Is(err, kind) {
			return
		}
	}
	t.Errorf("an error of no kind: %v", err)
}

// fuzzedUnpacked is what a fuzzed layer may unpack to.
const fuzzedUnpacked = 64 << 10

// FuzzBootstrapLayer unpacks any archive, packed in each of the ways: what comes out
// of it is within bounds, and is the same whichever way. With mend, sizes and checksums
// of the archive are right, or hardly one that is altered would be read.
func FuzzBootstrapLayer(f *testing.F) {
	for _, tag := range realForms() {
		layers, err := testimage.Newer(f, tag).Layers()
		require.NoError(f, err)
		r, err := layers[len(layers)-1].Uncompressed()
		require.NoError(f, err)
		archive, err := io.ReadAll(r)
		require.NoError(f, err)
		f.Add(archive[:min(len(archive), 100<<10)], false, true)
	}
	for _, names := range [][]string{{"image.boot"}, {"image/image.boot", "image/backend.json"}, {"./image/image.boot", "image/a.blob.meta", "image/../b.blob.meta"},
		{"image/image.boot", "image.boot"}, {"image/backend.json"}} {
		var archive bytes.Buffer
		w := tar.NewWriter(&archive)
		for _, name := range names {
			require.NoError(f, w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Size: 3}))
			_, err := w.Write([]byte("abc"))
			require.NoError(f, err)
		}
		require.NoError(f, w.Close())
		f.Add(archive.Bytes(), false, true)
		f.Add(packLayer(f, archive.Bytes(), true), true, false)
		f.Add(packLayer(f, archive.Bytes(), false), true, false)
	}
	f.Fuzz(func(t *testing.T, data []byte, packed, mend bool) {
		if mend && !packed {
			data = mutate.MendTar(data)
		}
		first, err := unpacked(t, data)
		second, again := unpacked(t, data)
		require.Equal(t, first, second, "unpacked twice")
		require.Equal(t, fmt.Sprint(err), fmt.Sprint(again), "unpacked twice")
		if packed || len(data) < 4 || bytes.HasPrefix(data, []byte{0x1f, 0x8b}) || bytes.HasPrefix(data, []byte{0x28, 0xb5, 0x2f, 0xfd}) {
			return
		}
		for _, gz := range []bool{true, false} {
			other, otherErr := unpacked(t, packLayer(t, data, gz))
			require.Equal(t, first, other, "gzip %v", gz)
			require.Equal(t, err == nil, otherErr == nil, "gzip %v: %v and %v", gz, err, otherErr)
		}
	})
}

func unpacked(t *testing.T, data []byte) (*Bootstrap, error) {
	t.Helper()
	archive, err := uncompressed(data)
	if err != nil {
		requireKind(t, err)
		return nil, err
	}
	defer archive.Close()
	b, err := unpackBootstrapLayer(archive, fuzzedUnpacked)
	if err != nil {
		requireKind(t, err)
		return nil, err
	}
	total := len(b.File) + len(b.Backend)
	for _, meta := range b.Metas {
		total += len(meta)
	}
	require.LessOrEqual(t, total, fuzzedUnpacked)
	return b, nil
}

// packLayer compresses with gzip or zstd.
func packLayer(t testing.TB, data []byte, gz bool) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser = gzip.NewWriter(&out)
	if !gz {
		var err error
		w, err = zstd.NewWriter(&out, zstd.WithEncoderConcurrency(1))
		require.NoError(t, err)
	}
	_, err := w.Write(data)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return out.Bytes()
}
