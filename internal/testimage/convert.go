package testimage

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// ConvertOptions is how an OCI image becomes a Nydus image. The platform is the source image's.
type ConvertOptions struct {
	FSVersion       string // RAFS version, "5" or "6"; empty: "6"
	Compressor      string // "zstd", "lz4_block" or "none"; empty: "zstd"
	Digester        string // "blake3" or "sha256"; empty: "blake3"
	ChunkSize       int    // bytes, a power of two from 0x1000 to 0x1000000; 0: 0x100000
	SourceReference string // what the manifest's annotation claims as source; empty: a made-up one
	Referrer        bool   // the manifest's subject is the source, as nydusify --with-referrer has it
	OCIRef          bool   // the data stays in the source's layers (zran), as nydusify --oci-ref has it; the options above do not apply

	// What nydus-image 2.2.0 does not know: NydusImage is the path of a newer one.
	NydusImage string
	BatchSize  int  // bytes, small chunks are compressed together; a power of two from 0x1000 to 0x1000000
	Encrypt    bool // AES-128-XTS
}

// Nydus is a converted image: a v1.Image to push, and the same as files. The files lie in the cache: read only.
type Nydus struct {
	v1.Image
	Source  v1.Image
	Options ConvertOptions

	BootstrapPath string // the merged bootstrap, as it is in image/image.boot
	BootstrapTar  string // the bootstrap layer before gzip
	BlobDir       string // the data blobs by their sha256 in hex, as nydusd's localfs backend wants them

	// Blobs has one element for each layer of the source, bottom first; layers of the same content have the same blob.
	Blobs []NydusBlob
}

var _ v1.Image = (*Nydus)(nil)

// NydusBlob is one converted layer.
type NydusBlob struct {
	Digest        v1.Hash // is the blob ID, but with OCIRef
	Size          int64   // in bytes, with the layer's bootstrap
	Path          string
	Ref           v1.Hash // the source's layer that holds the data, with OCIRef; else zero
	BootstrapPath string  // the layer's own bootstrap, out of the blob's tail, named by the blob's sha256 in hex
}

func (o ConvertOptions) withDefaults() ConvertOptions {
	if o.FSVersion == "" {
		o.FSVersion = "6"
	}
	if o.Compressor == "" {
		o.Compressor = "zstd"
	}
	if o.Digester == "" {
		o.Digester = "blake3"
	}
	if o.ChunkSize == 0 {
		o.ChunkSize = 0x100000
	}
	if o.SourceReference == "" {
		o.SourceReference = "registry.test/source:latest"
	}
	return o
}

// conversion is what the cache keeps of a conversion beside its files.
type conversion struct {
	Blobs     []convertedBlob
	Bootstrap storedLayer
}

type convertedBlob struct {
	Digest v1.Hash
	Size   int64
	Ref    v1.Hash `json:",omitzero"` // the layer that holds the data; zero: the blob does
}

// id is the blob ID.
func (b *convertedBlob) id() string {
	if b.Ref != (v1.Hash{}) {
		return b.Ref.Hex
	}
	return b.Digest.Hex
}

// The files of a conversion within its folder.
const (
	blobDir          = "blobs"
	layerBootDir     = "layers"
	bootstrapFile    = "image.boot"
	bootstrapTarFile = "bootstrap.tar"
	bootstrapGzFile  = "bootstrap.tar.gz"
	conversionFile   = "conversion.json"
)

// Convert converts the image as nydusify and nydus-snapshotter v0.16.1 do (pkg/converter, pkg/converter/tool):
// layer by layer with `nydus-image create --type tar-rafs`, then `nydus-image merge` over the layers' bootstraps.
func Convert(t testing.TB, oci v1.Image, options ConvertOptions) *Nydus {
	t.Helper()
	o := options.withDefaults()
	source, err := oci.Digest()
	if err != nil {
		t.Fatalf("convert: digest of the source image: %v", err)
	}
	config, err := oci.ConfigFile()
	if err != nil {
		t.Fatalf("convert: config of the source image: %v", err)
	}
	parts := append(diffIDs(config), NydusVersion, o.FSVersion, o.Compressor, o.Digester, fmt.Sprint(o.ChunkSize))
	if o.OCIRef || o.NydusImage != "" {
		parts = append(parts, source.String(), o.NydusImage, fmt.Sprint("2", o.OCIRef, o.BatchSize, o.Encrypt))
	}
	dir := cached(t, "nydus", cacheKey(parts...), func(dir string) error {
		program := o.NydusImage
		if program == "" {
			program = Tools(t).NydusImage
		}
		return convert(program, dir, oci, o)
	})
	var done conversion
	readJSON(t, filepath.Join(dir, conversionFile), &done)
	n := &Nydus{
		Source:        oci,
		Options:       o,
		BootstrapPath: filepath.Join(dir, bootstrapFile),
		BootstrapTar:  filepath.Join(dir, bootstrapTarFile),
		BlobDir:       filepath.Join(dir, blobDir),
	}
	for _, b := range done.Blobs {
		n.Blobs = append(n.Blobs, NydusBlob{
			Digest:        b.Digest,
			Size:          b.Size,
			Ref:           b.Ref,
			Path:          filepath.Join(n.BlobDir, b.Digest.Hex),
			BootstrapPath: filepath.Join(dir, layerBootDir, b.id()),
		})
	}
	done.Bootstrap.Path = filepath.Join(dir, bootstrapGzFile)
	if n.Image, err = nydusImage(n, &done.Bootstrap, config, source); err != nil {
		t.Fatalf("convert: make the Nydus image: %v", err)
	}
	return n
}

func diffIDs(config *v1.ConfigFile) []string {
	var ids []string
	for _, d := range config.RootFS.DiffIDs {
		ids = append(ids, d.String())
	}
	return ids
}

func convert(nydusImage, dir string, oci v1.Image, o ConvertOptions) error {
	for _, sub := range []string{blobDir, layerBootDir} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			return err
		}
	}
	layers, err := oci.Layers()
	if err != nil {
		return fmt.Errorf("layers of the source image: %w", err)
	}
	var done conversion
	for i, l := range layers {
		makeBlob := convertLayer
		if o.OCIRef {
			makeBlob = indexLayer
		}
		b, err := makeBlob(nydusImage, dir, l, o)
		if err != nil {
			return fmt.Errorf("convert layer %d: %w", i, err)
		}
		done.Blobs = append(done.Blobs, b)
	}
	if err := merge(nydusImage, dir, done.Blobs); err != nil {
		return fmt.Errorf("merge: %w", err)
	}
	bootstrap, err := packBootstrap(dir, done.Blobs, o.FSVersion)
	if err != nil {
		return fmt.Errorf("pack the bootstrap layer: %w", err)
	}
	done.Bootstrap = *bootstrap
	return writeJSON(filepath.Join(dir, conversionFile), done)
}

// convertLayer makes the data blob of a layer and takes the layer's bootstrap out of its tail.
func convertLayer(nydusImage, dir string, l v1.Layer, o ConvertOptions) (convertedBlob, error) {
	tarFile, blobFile := filepath.Join(dir, "layer.tar"), filepath.Join(dir, "layer.blob")
	if err := unpackLayer(l, tarFile); err != nil {
		return convertedBlob{}, fmt.Errorf("unpack the layer: %w", err)
	}
	defer os.Remove(tarFile)
	args := []string{"create", "--log-level", "warn", "--prefetch-policy", "fs", "--blob", blobFile,
		"--whiteout-spec", "none", "--fs-version", o.FSVersion, "--type", "tar-rafs", "--blob-inline-meta"}
	if o.FSVersion == "6" {
		args = append(args, "--features", "blob-toc") // v5 has no table of contents
	}
	args = append(args, "--compressor", o.Compressor, "--digester", o.Digester,
		"--chunk-size", fmt.Sprintf("0x%x", o.ChunkSize))
	if o.BatchSize != 0 {
		args = append(args, "--batch-size", fmt.Sprintf("0x%x", o.BatchSize))
	}
	if o.Encrypt {
		args = append(args, "--encrypt")
	}
	if err := runNydusImage(nydusImage, dir, append(args, tarFile)...); err != nil {
		return convertedBlob{}, err
	}
	return storeBlob(dir, blobFile, v1.Hash{})
}

// storeBlob puts a blob where its digest says and takes the layer's bootstrap out of its tail. ref is the layer that
// holds its data, zero for the blob itself.
func storeBlob(dir, blobFile string, ref v1.Hash) (convertedBlob, error) {
	digest, size, err := hashFile(blobFile)
	if err != nil {
		return convertedBlob{}, fmt.Errorf("hash the blob: %w", err)
	}
	final := filepath.Join(dir, blobDir, digest.Hex)
	if err := os.Rename(blobFile, final); err != nil {
		return convertedBlob{}, err
	}
	boot, err := readBlobEntry(final, "image.boot")
	if err != nil {
		return convertedBlob{}, err
	}
	b := convertedBlob{Digest: digest, Size: size, Ref: ref}
	return b, os.WriteFile(filepath.Join(dir, layerBootDir, b.id()), boot, 0o644)
}

func unpackLayer(l v1.Layer, name string) error { return copyLayer(l.Uncompressed, name) }

// copyLayer writes what a layer's Compressed or Uncompressed gives into a file.
func copyLayer(open func() (io.ReadCloser, error), name string) error {
	rc, err := open()
	if err != nil {
		return err
	}
	defer rc.Close()
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(f, rc)
	return err
}

// merge makes the merged bootstrap of the layers' bootstraps. Their file names matter: nydus-image takes the blob ID
// of a layer bootstrap from them.
func merge(nydusImage, dir string, blobs []convertedBlob) error {
	outputJSON := filepath.Join(dir, "merge.json")
	args := []string{"merge", "--log-level", "warn", "--prefetch-policy", "fs", "--output-json", outputJSON,
		"--bootstrap", filepath.Join(dir, bootstrapFile)}
	refs, err := referArgs(dir, blobs)
	if err != nil {
		return err
	}
	args = append(args, refs...)
	for _, b := range blobs {
		args = append(args, filepath.Join(dir, layerBootDir, b.id()))
	}
	if err := runNydusImage(nydusImage, dir, args...); err != nil {
		return err
	}
	raw, err := os.ReadFile(outputJSON)
	if err != nil {
		return err
	}
	var merged struct{ Blobs []string }
	if err := json.Unmarshal(raw, &merged); err != nil {
		return fmt.Errorf("read what nydus-image said: %w", err)
	}
	known := map[string]bool{}
	for _, b := range blobs {
		known[b.Digest.Hex] = true
		known[b.Ref.Hex] = true
	}
	for _, id := range merged.Blobs {
		if !known[id] {
			return fmt.Errorf("the merged bootstrap refers to blob %s, which no layer is; layers: %v", id, blobs)
		}
	}
	return nil
}

// runNydusImage runs nydus-image with the converter's list of files to prefetch, "/", on stdin.
func runNydusImage(nydusImage, dir string, args ...string) error {
	cmd := exec.Command(nydusImage, args...)
	cmd.Dir = dir
	cmd.Stdin = strings.NewReader("/")
	_, err := output(cmd)
	return err
}
