package mutate

import (
	"embed"
	"io/fs"
	"path"
	"testing"
)

// images has a small image of every kind that nydus-image 2.2.0 makes, with every
// kind of inode: TestImages makes them.
//
//go:embed testdata
var images embed.FS

// An Image is a merged bootstrap and its blobs, by ID. Layer is the blob that
// carries its layer's bootstrap; with zran it is not the blob that has the data.
type Image struct {
	Name      string
	Bootstrap []byte
	Blobs     map[string][]byte
	Layer     []byte
}

// Images returns the images, in the order of their names.
func Images(t testing.TB) (all []Image) {
	t.Helper()
	folders, err := fs.ReadDir(images, "testdata")
	if err != nil || len(folders) == 0 {
		t.Fatalf("read the images to fuzz: %v", err)
	}
	read := func(name string) []byte {
		data, err := images.ReadFile(name)
		if err != nil {
			t.Fatalf("read the images to fuzz: %v", err)
		}
		return data
	}
	for _, folder := range folders {
		dir := path.Join("testdata", folder.Name())
		image := Image{Name: folder.Name(), Bootstrap: read(path.Join(dir, "bootstrap")), Blobs: make(map[string][]byte)}
		blobs, err := fs.ReadDir(images, path.Join(dir, "blobs"))
		if err != nil {
			t.Fatalf("read the images to fuzz: %v", err)
		}
		for _, b := range blobs {
			image.Blobs[b.Name()] = read(path.Join(dir, "blobs", b.Name()))
			image.Layer = image.Blobs[b.Name()]
		}
		if layer, err := images.ReadFile(path.Join(dir, "layer")); err == nil {
			image.Layer = layer
		}
		all = append(all, image)
	}
	return all
}
