package testimage

import (
	"archive/tar"
	"bytes"
	"fmt"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// A Crafted image is one that nobody converted: each part is as somebody who can push wants it, and all digests are
// right. Its data is RAFS v5, uncompressed, but for Raw.
type Crafted struct {
	// Layers are the trees that the blobs carry in their tails, bottom first, whiteouts included. A nil one carries none.
	Layers [][]CraftedFile
	// Merged is what the image shows. Data of its files lies in the blob that Layer says, nil: in that of the last layer.
	Merged []CraftedFile
	Layer  map[string]int // by path
	// Raw is put at the beginning of the lowest blob.
	Raw []byte

	History []v1.History // nil: none
	Config  v1.Config
	// EditBootstrap changes the merged bootstrap.
	EditBootstrap func([]byte)
	// Archive is added to the bootstrap layer's archive, behind the bootstrap.
	Archive []CraftedEntry
	// Edit changes the manifest last.
	Edit func(*v1.Manifest)
}

// A CraftedEntry is an entry of a bootstrap layer's archive.
type CraftedEntry struct {
	tar.Header
	Content []byte
}

// inlinedMeta is the feature of a blob that holds its layer's bootstrap.
const inlinedMeta = 0x2

// Craft makes the image.
func Craft(t testing.TB, c Crafted) v1.Image {
	t.Helper()
	img, err := c.image()
	if err != nil {
		t.Fatalf("craft an image: %v", err)
	}
	return img
}

func (c *Crafted) image() (v1.Image, error) {
	count := max(len(c.Layers), 1)
	data := make([]craftedData, count)
	data[0].bytes = bytes.Clone(c.Raw)
	layerOf := func(f *CraftedFile) int {
		if layer, ok := c.Layer[f.Path]; ok {
			return layer
		}
		return count - 1
	}
	// All data is placed before any table is made.
	for i := range c.Layers {
		for n := range c.Layers[i] {
			if f := &c.Layers[i][n]; f.Data != nil {
				data[i].add(f.Data)
			}
		}
	}
	for n := range c.Merged {
		if f := &c.Merged[n]; f.Data != nil {
			data[layerOf(f)].add(f.Data)
		}
	}
	var layers []partial.CompressedLayer
	var annotations []map[string]string
	config := &v1.ConfigFile{Architecture: "amd64", OS: "linux", Created: v1.Time{Time: DefaultTime}, Config: c.Config, History: c.History}
	var blobs []CraftedBlob
	for i := range data {
		blob := bytes.Clone(data[i].bytes)
		if i < len(c.Layers) && c.Layers[i] != nil {
			boot := CraftV5(c.Layers[i], []CraftedBlob{data[i].table("layer", inlinedMeta)}, func(f *CraftedFile) []CraftedChunk {
				return []CraftedChunk{data[i].add(f.Data)}
			})
			header, err := tarHeader("image.boot", len(boot))
			if err != nil {
				return nil, err
			}
			blob = append(append(blob, boot...), header...)
		}
		digest, _, err := v1.SHA256(bytes.NewReader(blob))
		if err != nil {
			return nil, err
		}
		layers = append(layers, &bytesLayer{data: blob, mediaType: MediaTypeNydusBlob, diff: digest})
		annotations = append(annotations, map[string]string{AnnotationBlob: "true"})
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest)
		blobs = append(blobs, data[i].table(digest.Hex, inlinedMeta))
	}
	boot := CraftV5(c.Merged, blobs, func(f *CraftedFile) []CraftedChunk {
		chunk := data[layerOf(f)].add(f.Data)
		chunk.Blob = uint32(layerOf(f))
		return []CraftedChunk{chunk}
	})
	if c.EditBootstrap != nil {
		c.EditBootstrap(boot)
	}
	archive, err := c.archive(boot)
	if err != nil {
		return nil, err
	}
	bootstrap, marks, err := (&Wrapping{}).bootstrapLayer(archive)
	if err != nil {
		return nil, err
	}
	marks[AnnotationBootstrap], marks[AnnotationFSVersion] = "true", "5"
	config.RootFS.Type = "layers"
	config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, bootstrap.diff)
	layers, annotations = append(layers, bootstrap), append(annotations, marks)
	img, err := newImage(config, types.OCIConfigJSON, layers, annotations, nil)
	if err != nil || c.Edit == nil {
		return img, err
	}
	return editManifest(img, c.Edit)
}

func tarHeader(name string, size int) ([]byte, error) {
	var b bytes.Buffer
	err := tar.NewWriter(&b).WriteHeader(&tar.Header{Name: name, Size: int64(size), Mode: 0o644})
	return b.Bytes(), err
}

// archive packs the bootstrap layer.
func (c *Crafted) archive(boot []byte) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range append([]CraftedEntry{{tar.Header{Name: "image/image.boot", Mode: 0o444}, boot}}, c.Archive...) {
		e.Header.Size = int64(len(e.Content))
		if err := w.WriteHeader(&e.Header); err != nil {
			return nil, fmt.Errorf("pack the bootstrap layer: %w", err)
		}
		if _, err := w.Write(e.Content); err != nil {
			return nil, fmt.Errorf("pack the bootstrap layer: %w", err)
		}
	}
	return b.Bytes(), w.Close()
}
