package consistency

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
)

// object is a JSON object.
type object = map[string]any

// A pairLayout is an OCI layout with the images "oci" and "nydus", to be altered.
type pairLayout struct {
	t   testing.TB
	dir string
}

// pairSpec has two layers with data and one without.
func pairSpec() testimage.Spec {
	return testimage.Spec{
		Name: "pair",
		Layers: []testimage.Layer{
			{testimage.Text("etc/motd", strings.Repeat("welcome\n", 2000))},
			{testimage.Text("etc/issue", strings.Repeat("hello\n", 2000))},
			{testimage.Dir("var")},
		},
		Config: v1.Config{
			Env: []string{"PATH=/bin", "LANG=C"}, Cmd: []string{"sh"}, User: "1000",
			Labels:       map[string]string{"org.opencontainers.image.title": "pair"},
			ExposedPorts: map[string]struct{}{"80/tcp": {}},
		},
		EmptyHistory: []v1.History{testimage.EmptyHistory(`CMD ["sh"]`)},
	}
}

func newPair(t testing.TB, o testimage.ConvertOptions) pairLayout {
	t.Helper()
	oci := testimage.BuildOCI(t, pairSpec())
	dir := t.TempDir()
	testimage.WriteLayout(t, dir, map[string]any{"oci": oci, "nydus": testimage.Convert(t, oci, o)})
	return pairLayout{t, dir}
}

func (p pairLayout) blob(digest string) string {
	return filepath.Join(p.dir, "blobs/sha256", strings.TrimPrefix(digest, "sha256:"))
}

func (p pairLayout) read(digest string) object {
	p.t.Helper()
	raw, err := os.ReadFile(p.blob(digest))
	require.NoError(p.t, err)
	var document object
	require.NoError(p.t, json.Unmarshal(raw, &document))
	return document
}

// put stores a blob and sets digest and size of a descriptor to its own.
func (p pairLayout) put(raw []byte, descriptor object) {
	p.t.Helper()
	digest := fmt.Sprintf("sha256:%x", sha256.Sum256(raw))
	require.NoError(p.t, os.WriteFile(p.blob(digest), raw, 0o644))
	descriptor["digest"], descriptor["size"] = digest, len(raw)
}

// alter edits the manifest and the config of an image; either may be nil. rewrite,
// if not nil, has the last word on the config's bytes.
func (p pairLayout) alter(tag string, manifest, config func(object), rewrite func([]byte) []byte) {
	p.t.Helper()
	indexFile := filepath.Join(p.dir, "index.json")
	raw, err := os.ReadFile(indexFile)
	require.NoError(p.t, err)
	var index object
	require.NoError(p.t, json.Unmarshal(raw, &index))
	for _, entry := range index["manifests"].([]any) {
		descriptor := entry.(object)
		if descriptor["annotations"].(object)["org.opencontainers.image.ref.name"] != tag {
			continue
		}
		m := p.read(descriptor["digest"].(string))
		if config != nil || rewrite != nil {
			d := m["config"].(object)
			c := p.read(d["digest"].(string))
			if config != nil {
				config(c)
			}
			raw := mustJSON(p.t, c)
			if rewrite != nil {
				raw = rewrite(raw)
			}
			p.put(raw, d)
		}
		if manifest != nil {
			manifest(m)
		}
		p.put(mustJSON(p.t, m), descriptor)
	}
	require.NoError(p.t, os.WriteFile(indexFile, mustJSON(p.t, index), 0o644))
}

// alterBootstrap edits the bootstrap of the Nydus image, and with it the digests
// that vouch for it.
func (p pairLayout) alterBootstrap(edit func([]byte)) {
	p.alterBootstrapLayer(func(name string, content []byte) []layerFile {
		if strings.HasSuffix(name, "image.boot") {
			edit(content)
		}
		return nil
	})
}

// A layerFile is a file of a bootstrap layer.
type layerFile struct {
	name    string
	content []byte
}

// alterBootstrapLayer edits the files of the bootstrap layer. What edit returns is put
// behind the file.
func (p pairLayout) alterBootstrapLayer(edit func(name string, content []byte) []layerFile) {
	var last string
	p.alter("nydus", func(m object) {
		layers := m["layers"].([]any)
		d := layers[len(layers)-1].(object)
		var archive bytes.Buffer
		last = repack(p.t, p.blob(d["digest"].(string)), &archive, edit)
		p.put(archive.Bytes(), d)
	}, nil, nil)
	p.alter("nydus", nil, func(c object) {
		ids := c["rootfs"].(object)["diff_ids"].([]any)
		ids[len(ids)-1] = last
	}, nil)
}

// repack copies a bootstrap layer with edited files and returns the diff ID.
func repack(t testing.TB, name string, to io.Writer, edit func(name string, content []byte) []layerFile) string {
	t.Helper()
	file, err := os.Open(name)
	require.NoError(t, err)
	defer file.Close()
	unzipped, err := gzip.NewReader(file)
	require.NoError(t, err)
	zipped, sum := gzip.NewWriter(to), sha256.New()
	in, out := tar.NewReader(unzipped), tar.NewWriter(io.MultiWriter(zipped, sum))
	for {
		header, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		content, err := io.ReadAll(in)
		require.NoError(t, err)
		more := edit(header.Name, content)
		for _, f := range append([]layerFile{{header.Name, content}}, more...) {
			header.Name, header.Size = f.name, int64(len(f.content))
			require.NoError(t, out.WriteHeader(header))
			_, err = out.Write(f.content)
			require.NoError(t, err)
		}
	}
	require.NoError(t, out.Close())
	require.NoError(t, zipped.Close())
	return fmt.Sprintf("sha256:%x", sum.Sum(nil))
}

func mustJSON(t testing.TB, value any) []byte {
	t.Helper()
	raw, err := json.Marshal(value)
	require.NoError(t, err)
	return raw
}

// check runs the manifest rule alone.
func (p pairLayout) check() Result {
	p.t.Helper()
	source, err := nydusimage.OpenOCI(p.t.Context(), p.dir+":oci", nydusimage.Options{})
	require.NoError(p.t, err)
	defer source.Close()
	target, err := nydusimage.Open(p.t.Context(), p.dir+":nydus", nydusimage.Options{})
	require.NoError(p.t, err)
	defer target.Close()
	result := checkManifest(p.t.Context(), Images{Source: source, Target: target}, Options{}, &Counts{})
	result.settle(nil)
	return result
}

// fields lists what differs, as "path field".
func fields(r Result) []string {
	var list []string
	for _, d := range r.Differences {
		list = append(list, d.Path+" "+d.Field)
	}
	return list
}

func notes(r Result) string {
	var text strings.Builder
	for _, n := range r.Notes {
		fmt.Fprintf(&text, "%s: %s\n", n.Path, n.Text)
	}
	return text.String()
}

func TestManifestEqual(t *testing.T) {
	for _, o := range []testimage.ConvertOptions{
		{FSVersion: "5"}, {FSVersion: "6"}, {FSVersion: "6", Compressor: "none"}, {FSVersion: "6", Referrer: true}, {OCIRef: true},
	} {
		t.Run(fmt.Sprintf("%+v", o), func(t *testing.T) {
			r := newPair(t, o).check()
			require.NoError(t, r.Err)
			assert.Empty(t, r.Differences)
			if !o.OCIRef { // there, an entry of the blob table names any layer
				assert.Contains(t, notes(r), "layers[2]: no file of the image has data in blob", "the layer without data")
				assert.Len(t, r.Notes, 1)
			}
		})
	}
}

// TestManifestFindsEach alters one thing at a time.
func TestManifestFindsEach(t *testing.T) {
	const (
		bootstrap = "containerd.io/snapshot/nydus-bootstrap"
		data      = "containerd.io/snapshot/nydus-blob"
		version   = "containerd.io/snapshot/nydus-fs-version"
		digest    = "containerd.io/snapshot/nydus-source-digest"
	)
	other := "sha256:" + strings.Repeat("0", 64)
	layer := func(m object, i int) object { return m["layers"].([]any)[i].(object) }
	diffIDs := func(c object) []any { return c["rootfs"].(object)["diff_ids"].([]any) }
	container := func(c object) object { return c["config"].(object) }
	entry := func(c object, i int) object { return c["history"].([]any)[i].(object) }
	for _, c := range []struct {
		manifest, config func(object)
		want             string
	}{
		{func(m object) { m["schemaVersion"] = 1 }, nil, "manifest schemaVersion"},
		{func(m object) { m["mediaType"] = types.OCIImageIndex }, nil, "manifest mediaType"},
		{func(m object) { m["manifests"] = []any{} }, nil, "manifest manifests"},
		{func(m object) { m["config"].(object)["mediaType"] = "text/plain" }, nil, "manifest config.mediaType"},
		{func(m object) { layer(m, 1)["mediaType"] = types.OCILayer }, nil, "manifest layers[1].mediaType"},
		{func(m object) { delete(layer(m, 0), "annotations") }, nil, `manifest layers[0].annotations["` + data + `"]`},
		{func(m object) { layer(m, 3)["mediaType"] = "text/plain" }, nil, "manifest layers[3].mediaType"},
		{func(m object) { layer(m, 3)["annotations"].(object)[bootstrap] = "false" }, nil, `manifest layers[3].annotations["` + bootstrap + `"]`},
		{func(m object) { layer(m, 3)["annotations"].(object)[version] = "5" }, nil, `manifest layers[3].annotations["` + version + `"]`},
		{func(m object) { m["annotations"].(object)[version] = "5" }, nil, `manifest annotations["` + version + `"]`},
		{func(m object) { m["annotations"].(object)[digest] = other }, nil, `manifest annotations["` + digest + `"]`},
		{func(m object) { m["subject"].(object)["digest"] = other }, nil, "manifest subject.digest"},
		{func(m object) { m["subject"].(object)["size"] = 1 }, nil, "manifest subject.size"},
		{func(m object) { m["subject"].(object)["mediaType"] = types.DockerManifestSchema2 }, nil, "manifest subject.mediaType"},

		{nil, func(c object) { diffIDs(c)[0] = other }, "config rootfs.diff_ids[0]"},
		{nil, func(c object) { diffIDs(c)[3] = other }, "config rootfs.diff_ids[3]"},
		{nil, func(c object) { c["rootfs"].(object)["diff_ids"] = diffIDs(c)[:3] }, "config rootfs.diff_ids[3]"},
		{nil, func(c object) { c["rootfs"].(object)["diff_ids"] = append(diffIDs(c), other) }, "config rootfs.diff_ids[4]"},
		{nil, func(c object) { c["rootfs"].(object)["type"] = "bricks" }, "config rootfs.type"},

		{nil, func(c object) { c["architecture"] = "arm64" }, "config architecture"},
		{nil, func(c object) { c["os"] = "plan9" }, "config os"},
		{nil, func(c object) { c["variant"] = "v8" }, "config variant"},
		{nil, func(c object) { c["os.version"] = "1" }, `config ["os.version"]`},
		{nil, func(c object) { c["author"] = "me" }, "config author"},
		{nil, func(c object) { c["created"] = "2024-01-02T03:04:06Z" }, "config created"},
		{nil, func(c object) { delete(c, "created") }, "config created"},
		{nil, func(c object) { c["unheardOf"] = object{"a": 1} }, "config unheardOf"},
		{nil, func(c object) { entry(c, 1)["created_by"] = "magic" }, "config history[1].created_by"},
		{nil, func(c object) { entry(c, 1)["comment"] = "magic" }, "config history[1].comment"},
		{nil, func(c object) { entry(c, 1)["author"] = "me" }, "config history[1].author"},
		{nil, func(c object) { delete(entry(c, 3), "empty_layer") }, "config history[3].empty_layer"},
		{nil, func(c object) { c["history"] = append([]any{object{}}, c["history"].([]any)...)[:5] }, "config history[0].comment"},
		{nil, func(c object) { h := c["history"].([]any); c["history"] = append(h[:3:3], h[4]) }, "config history[3]"},
		{nil, func(c object) { c["history"] = append(c["history"].([]any)[:4:4], object{"created_by": "magic"}) }, "config history[4]"},
		{nil, func(c object) { container(c)["Env"].([]any)[1] = "LANG=D" }, "config config.Env[1]"},
		{nil, func(c object) { container(c)["Env"] = []any{"PATH=/bin", "LANG=C", "X=Y"} }, "config config.Env[2]"},
		{nil, func(c object) { container(c)["Cmd"] = []any{} }, "config config.Cmd[0]"},
		{nil, func(c object) { delete(container(c), "Cmd") }, "config config.Cmd"},
		{nil, func(c object) { container(c)["Entrypoint"] = []any{""} }, "config config.Entrypoint"},
		{nil, func(c object) { container(c)["User"] = "0" }, "config config.User"},
		{nil, func(c object) { container(c)["WorkingDir"] = "/" }, "config config.WorkingDir"},
		{nil, func(c object) { container(c)["StopSignal"] = "SIGKILL" }, "config config.StopSignal"},
		{nil, func(c object) { container(c)["StopTimeout"] = 0 }, "config config.StopTimeout"},
		{nil, func(c object) { container(c)["WorkingDir"] = "0001-01-01T00:00:00Z" }, "config config.WorkingDir"},
		{nil, func(c object) { container(c)["Volumes"] = object{"/data": object{}} }, "config config.Volumes"},
		{nil, func(c object) { delete(container(c)["ExposedPorts"].(object), "80/tcp") }, `config config.ExposedPorts["80/tcp"]`},
		{nil, func(c object) { container(c)["Labels"].(object)["x"] = "" }, "config config.Labels.x"},
		{nil, func(c object) { delete(container(c)["Labels"].(object), "org.opencontainers.image.title") }, `config config.Labels["org.opencontainers.image.title"]`},
		{nil, func(c object) { container(c)["Healthcheck"] = object{"Test": []any{"NONE"}} }, "config config.Healthcheck"},
		{nil, func(c object) { container(c)["unheardOf"] = true }, "config config.unheardOf"},
		{nil, func(c object) { container(c)["env"] = container(c)["Env"] }, "config config.env"},
	} {
		t.Run(c.want, func(t *testing.T) {
			p := newPair(t, testimage.ConvertOptions{Referrer: true})
			p.alter("nydus", c.manifest, c.config, nil)
			r := p.check()
			require.NoError(t, r.Err)
			found := fields(r)
			require.Contains(t, found, c.want)
			if !strings.HasPrefix(c.want, "config history[0]") { // one entry moves the others
				assert.Len(t, found, 1)
			}
			d := r.Differences[0]
			assert.NotEqual(t, d.Want, d.Got)
			assert.NotEmpty(t, d.Want)
			assert.NotEmpty(t, d.Got)
		})
	}
}

// TestManifestBothSides: a field that the source has and the target lacks is
// found as the reverse is.
func TestManifestBothSides(t *testing.T) {
	p := newPair(t, testimage.ConvertOptions{})
	p.alter("oci", nil, func(c object) { c["config"].(object)["StopSignal"] = "SIGINT" }, nil)
	r := p.check()
	require.NoError(t, r.Err)
	assert.Equal(t, []string{"config config.StopSignal", `manifest annotations["containerd.io/snapshot/nydus-source-digest"]`}, fields(r))
	assert.Equal(t, `"SIGINT"`, r.Differences[0].Want)
	assert.Equal(t, "none", r.Differences[0].Got)
}

// TestManifestSpelledOtherwise alters what makes no difference.
func TestManifestSpelledOtherwise(t *testing.T) {
	p := newPair(t, testimage.ConvertOptions{})
	p.alter("nydus", nil, func(c object) {
		c["created"] = "2024-01-02T04:04:05.000+01:00"
		c["author"] = ""
		container := c["config"].(object)
		container["ArgsEscaped"] = true
		container["OnBuild"] = nil
		container["AttachStdin"] = false
		container["Volumes"] = object{}
	}, func(raw []byte) []byte {
		var indented bytes.Buffer
		require.NoError(t, json.Indent(&indented, raw, "", "    "))
		return indented.Bytes()
	})
	r := p.check()
	require.NoError(t, r.Err)
	assert.Empty(t, r.Differences)
}

// TestManifestNotes: what converters lose, and other names of the same image, are
// noted.
func TestManifestNotes(t *testing.T) {
	p := newPair(t, testimage.ConvertOptions{})
	p.alter("oci", func(m object) { m["annotations"] = object{"org.opencontainers.image.url": "x"} }, func(c object) {
		c["docker_version"] = "20.10"
		c["container_config"] = object{"Cmd": []any{"true"}}
		c["config"].(object)["Image"] = "sha256:1"
	}, nil)
	var source v1.Hash
	oci, err := nydusimage.OpenOCI(t.Context(), p.dir+":oci", nydusimage.Options{})
	require.NoError(t, err)
	source = oci.Digest
	require.NoError(t, oci.Close())
	p.alter("nydus", func(m object) {
		m["annotations"].(object)["containerd.io/snapshot/nydus-source-digest"] = source.String()
	}, nil, nil)
	r := p.check()
	require.NoError(t, r.Err)
	assert.Empty(t, r.Differences)
	for _, text := range []string{"docker_version: a trace", "container_config: a trace", "config.Image: a trace", `annotations["org.opencontainers.image.url"]`} {
		assert.Contains(t, notes(r), text)
	}

	// There, but not the same, is a difference.
	p.alter("nydus", func(m object) { m["annotations"].(object)["org.opencontainers.image.url"] = "y" },
		func(c object) { c["docker_version"] = "19" }, nil)
	assert.Equal(t, []string{"config docker_version", `manifest annotations["org.opencontainers.image.url"]`}, fields(p.check()))

	// A Nydus image need not say what it was made from.
	p.alter("nydus", func(m object) { delete(m, "annotations") }, nil, nil)
	r = p.check()
	assert.Contains(t, notes(r), "does not say what it was made from")
}

func TestManifestDuplicateFields(t *testing.T) {
	twice := func(raw []byte) []byte { return append([]byte(`{"os":"linux",`), raw[1:]...) }
	p := newPair(t, testimage.ConvertOptions{})
	p.alter("nydus", nil, nil, twice)
	r := p.check()
	require.NoError(t, r.Err)
	assert.Equal(t, []string{"config JSON"}, fields(r))

	// With such a source nothing can be compared.
	p = newPair(t, testimage.ConvertOptions{})
	p.alter("oci", nil, nil, twice)
	r = p.check()
	assert.ErrorIs(t, r.Err, nydusimage.ErrInvalid)
	assert.Equal(t, Incomplete, r.Verdict())
}

// TestManifestUnicode: what is no Unicode is not taken for other text that is none.
func TestManifestUnicode(t *testing.T) {
	for _, text := range []string{"LANG=\xff", `LANG=\udfff`} {
		p := newPair(t, testimage.ConvertOptions{})
		p.alter("nydus", nil, nil, func(raw []byte) []byte { return bytes.Replace(raw, []byte("LANG=C"), []byte(text), 1) })
		r := p.check()
		require.NoError(t, r.Err)
		assert.Equal(t, []string{"config JSON"}, fields(r))
	}
}

// TestManifestBlobTable alters the entries of the blob table of RAFS v6, 256 bytes
// each.
func TestManifestBlobTable(t *testing.T) {
	entry := func(bootstrap []byte, i int) []byte {
		return bootstrap[binary.LittleEndian.Uint64(bootstrap[1152+8:])+uint64(i)*256:]
	}
	for _, c := range []struct {
		want string
		edit func(bootstrap []byte)
	}{
		{"manifest blob table[1].blob_id", func(b []byte) { copy(entry(b, 1), strings.Repeat("0", 64)) }},
		{"manifest blob table[0].compressed_size", func(b []byte) { binary.LittleEndian.PutUint64(entry(b, 0)[88:], 1<<30) }},
		{"manifest blob table[0].ci_offset", func(b []byte) { binary.LittleEndian.PutUint64(entry(b, 0)[112:], 1<<30) }},
		{"manifest blob table[0].blob_toc_size", func(b []byte) { binary.LittleEndian.PutUint32(entry(b, 0)[104:], 1) }},
		{"manifest blob table[0].blob_toc_digest", func(b []byte) { entry(b, 0)[136] = 1 }},
	} {
		t.Run(c.want, func(t *testing.T) {
			p := newPair(t, testimage.ConvertOptions{})
			p.alterBootstrap(c.edit)
			r := p.check()
			require.NoError(t, r.Err)
			assert.Equal(t, []string{c.want}, fields(r))
		})
	}
}

// TestManifestUnreadableBootstrap: a bootstrap that is damaged is a fault of the
// image, found without a panic.
func TestManifestUnreadableBootstrap(t *testing.T) {
	p := newPair(t, testimage.ConvertOptions{})
	p.alterBootstrap(func(b []byte) { clear(b[1024:1028]) }) // the magic number
	r := p.check()
	require.NoError(t, r.Err)
	assert.Equal(t, []string{"manifest bootstrap"}, fields(r))
}

// TestManifestLayers: one layer more, which no entry of the blob table names, is
// noted and found by its diff ID; one less is found.
func TestManifestLayers(t *testing.T) {
	p := newPair(t, testimage.ConvertOptions{})
	p.alter("nydus", func(m object) {
		layers := m["layers"].([]any)
		m["layers"] = layers[1:]
	}, nil, nil)
	r := p.check()
	require.NoError(t, r.Err)
	assert.Contains(t, fields(r), "manifest blob table[0].blob_id")
	assert.Contains(t, fields(r), "config rootfs.diff_ids[3]")
}

func TestManifestPresence(t *testing.T) {
	for _, c := range []struct {
		want  string
		spoil func(name string) error
	}{
		{"manifest layers[1]", os.Remove},
		{"manifest layers[1].size", func(name string) error { return os.Truncate(name, 100) }},
	} {
		p := newPair(t, testimage.ConvertOptions{})
		target, err := nydusimage.Open(t.Context(), p.dir+":nydus", nydusimage.Options{})
		require.NoError(t, err)
		require.NoError(t, c.spoil(p.blob(target.Layers[1].Digest.String())))
		r := p.check()
		require.NoError(t, r.Err)
		assert.Equal(t, []string{c.want}, fields(r))
	}
}

// TestManifestReference: the data of an OCI reference lies in the OCI layers,
// which the repository and the source have.
func TestManifestReference(t *testing.T) {
	p := newPair(t, testimage.ConvertOptions{OCIRef: true})
	target, err := nydusimage.Open(t.Context(), p.dir+":nydus", nydusimage.Options{})
	require.NoError(t, err)
	layer := target.Layers[0].Ref
	require.NoError(t, os.Rename(p.blob(layer.String()), p.blob(layer.String())+"-away"))
	r := p.check()
	require.NoError(t, r.Err)
	assert.Equal(t, []string{"manifest blob table[0].blob_id"}, fields(r))
	require.NoError(t, os.Rename(p.blob(layer.String())+"-away", p.blob(layer.String())))

	// Another OCI image, without one of the layers.
	p.alter("oci", func(m object) { m["layers"] = m["layers"].([]any)[1:] },
		func(c object) { ids := c["rootfs"].(object); ids["diff_ids"] = ids["diff_ids"].([]any)[1:] }, nil)
	r = p.check()
	require.NoError(t, r.Err)
	assert.Contains(t, fields(r), "manifest blob table[0].blob_id")

	entry := func(b []byte) []byte { return b[binary.LittleEndian.Uint64(b[1152+8:]):] }
	for want, edit := range map[string]func([]byte){
		"manifest blob table[0].blob_meta_digest": func(b []byte) { entry(b)[168] ^= 1 },
		"manifest blob table[0].blob_meta_size":   func(b []byte) { entry(b)[200] ^= 1 },
		"manifest blob table[0].blob_id.size":     func(b []byte) { entry(b)[88] ^= 1 }, // compressed_size: that of the OCI layer
	} {
		p := newPair(t, testimage.ConvertOptions{OCIRef: true})
		p.alterBootstrap(edit)
		r := p.check()
		require.NoError(t, r.Err)
		assert.Equal(t, []string{want}, fields(r))
	}
}

// TestManifestCannotAsk: what cannot be read is no difference.
func TestManifestCannotAsk(t *testing.T) {
	p := newPair(t, testimage.ConvertOptions{})
	target, err := nydusimage.Open(t.Context(), p.dir+":nydus", nydusimage.Options{})
	require.NoError(t, err)
	target.Layers[0].Source = failingSource{target.Layers[0].Size}
	r := checkManifest(t.Context(), Images{Target: target}, Options{}, &Counts{})
	assert.ErrorIs(t, r.Err, fs.ErrPermission)
	assert.Empty(t, r.Differences)
	assert.Equal(t, Incomplete, r.Verdict())
}

type failingSource struct{ size int64 }

func (s failingSource) Size() int64 { return s.size }

func (s failingSource) ReadRange(context.Context, []byte, int64) error { return fs.ErrPermission }

// TestManifestOfIndex: the OCI image of an index that has its twin, too, is not
// quite the one that was converted.
func TestManifestOfIndex(t *testing.T) {
	oci := testimage.BuildOCI(t, pairSpec())
	nydus := testimage.Convert(t, oci, testimage.ConvertOptions{Referrer: true})
	for _, form := range []testimage.IndexForm{testimage.ByArtifactType, testimage.ByOSFeature} {
		dir := t.TempDir()
		testimage.WriteLayout(t, dir, map[string]any{"both": testimage.Index(t, form, testimage.Pair{OCI: oci, Nydus: nydus})})
		source, err := nydusimage.OpenOCI(t.Context(), dir+":both", nydusimage.Options{})
		require.NoError(t, err)
		target, err := nydusimage.Open(t.Context(), dir+":both", nydusimage.Options{})
		require.NoError(t, err)
		r := checkManifest(t.Context(), Images{Source: source, Target: target}, Options{}, &Counts{})
		require.NoError(t, r.Err)
		assert.Empty(t, r.Differences)
	}
}

// TestDecodeObject: hostile documents are refused, not read without end.
func TestDecodeObject(t *testing.T) {
	for _, bad := range []string{
		"", "{", "[]", "1", `{"a":1,"a":1}`, `{"a":{"b":1,"b":2}}`, `{} {}`, `{"a":}`, `{"a" 1}`, "{\"a\":[1,}",
		`{"a":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + "}",
		`{"a":[` + strings.Repeat("0,", maxJSONValues) + "0]}",
	} {
		_, err := decodeObject([]byte(bad))
		assert.ErrorIs(t, err, nydusimage.ErrInvalid, "%.40s", bad)
	}
	_, err := decodeObject([]byte(` {"a":[1,{"b":null}],"c":"d"} `))
	assert.NoError(t, err)
}
