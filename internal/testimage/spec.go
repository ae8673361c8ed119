package testimage

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
)

// Spec is an image to be built.
type Spec struct {
	Name     string
	Layers   []Layer     // bottom first
	Platform v1.Platform // zero: linux/amd64
	Config   v1.Config   // Env, Cmd, User, Entrypoint, Labels, …

	// History is the whole history. Without it every layer gets one entry, and EmptyHistory follows.
	History      []v1.History
	EmptyHistory []v1.History
}

// EmptyHistory is a history entry of a build step that made no layer.
func EmptyHistory(createdBy string) v1.History {
	return v1.History{Created: v1.Time{Time: DefaultTime}, CreatedBy: createdBy, EmptyLayer: true,
		Comment: "buildkit.dockerfile.v0"}
}

// BuildOCI builds the image of the spec: gzip'ed tar layers, OCI media types. The same spec gives the same digest.
func BuildOCI(t testing.TB, spec Spec) v1.Image {
	t.Helper()
	platform := spec.Platform
	if platform.OS == "" {
		platform.OS, platform.Architecture = "linux", "amd64"
	}
	config := &v1.ConfigFile{
		Architecture: platform.Architecture,
		OS:           platform.OS,
		Variant:      platform.Variant,
		Created:      v1.Time{Time: DefaultTime},
		Config:       spec.Config,
		RootFS:       v1.RootFS{Type: "layers"},
		History:      spec.History,
	}
	var layers []partial.CompressedLayer
	for i, l := range spec.Layers {
		stored := storeLayer(t, l)
		layers = append(layers, stored)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, stored.Diff)
		if spec.History == nil {
			config.History = append(config.History, v1.History{
				Created:   v1.Time{Time: DefaultTime},
				CreatedBy: fmt.Sprintf("COPY layer%d / # buildkit", i+1),
				Comment:   "buildkit.dockerfile.v0",
			})
		}
	}
	if spec.History == nil {
		config.History = append(config.History, spec.EmptyHistory...)
	}
	img, err := newImage(config, types.OCIConfigJSON, layers, make([]map[string]string, len(layers)), nil)
	if err != nil {
		t.Fatalf("build the OCI image %q: %v", spec.Name, err)
	}
	return img
}

// storeLayer returns the layer as a gzip'ed tar in the cache.
func storeLayer(t testing.TB, l Layer) *storedLayer {
	t.Helper()
	pr, pw := io.Pipe()
	go func() { pw.CloseWithError(l.writeTar(pw)) }()
	diff, _, err := v1.SHA256(pr)
	if err != nil {
		t.Fatalf("write a layer: %v", err)
	}
	dir := cached(t, "layer", cacheKey(diff.Hex), func(dir string) error {
		stored, err := writeLayer(filepath.Join(dir, "layer.tar.gz"), l, diff)
		if err != nil {
			return err
		}
		return writeJSON(filepath.Join(dir, "layer.json"), stored)
	})
	stored := &storedLayer{}
	readJSON(t, filepath.Join(dir, "layer.json"), stored)
	stored.Path = filepath.Join(dir, "layer.tar.gz")
	return stored
}

func writeLayer(name string, l Layer, diff v1.Hash) (*storedLayer, error) {
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	gz := gzip.NewWriter(f)
	if err := l.writeTar(gz); err != nil {
		return nil, err
	}
	if err := gz.Close(); err != nil {
		return nil, err
	}
	digest, size, err := hashFile(name)
	return &storedLayer{Type: types.OCILayer, Hash: digest, Diff: diff, Length: size}, err
}

func hashFile(name string) (v1.Hash, int64, error) {
	f, err := os.Open(name)
	if err != nil {
		return v1.Hash{}, 0, err
	}
	defer f.Close()
	return v1.SHA256(f)
}

func writeJSON(name string, value any) error {
	raw, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return os.WriteFile(name, raw, 0o644)
}

func readJSON(t testing.TB, name string, value any) {
	t.Helper()
	raw, err := os.ReadFile(name)
	if err == nil {
		err = json.Unmarshal(raw, value)
	}
	if err != nil {
		t.Fatalf("read the cached %s: %v", name, err)
	}
}
