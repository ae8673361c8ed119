package artifact

import (
	"path"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
)

// whiteouts are what layers delete of those below them: the layer of each
// deleted path, and of each directory whose contents are.
//
// A hidden file is not always deleted: Trivy forgets what it found under a path
// when a layer deletes the path, not when a layer only puts something else there
// or in place of a directory above. Layers add their whiteouts from the top down,
// so that the lowest one above a file counts.
type whiteouts struct {
	paths, contents map[string]int
}

func newWhiteouts() *whiteouts {
	return &whiteouts{paths: make(map[string]int), contents: make(map[string]int)}
}

// add takes a path of a layer's tree, if it is that of a whiteout. In the lowest
// layer whiteouts are ordinary names.
func (w *whiteouts) add(layer int, name string) {
	if layer == 0 {
		return
	}
	dir, base := path.Split(name)
	switch deletes, opaque, ok := nydusmount.Whiteout(base); {
	case opaque:
		w.contents[path.Clean(dir)] = layer
	case ok:
		w.paths[path.Join(dir, deletes)] = layer
	}
}

// layer returns the layer that deletes a path which a layer below it holds.
func (w *whiteouts) layer(name string) (int, bool) {
	for ; name != "."; name = path.Dir(name) {
		if layer, ok := w.paths[name]; ok {
			return layer, true
		}
		if layer, ok := w.contents[path.Dir(name)]; ok {
			return layer, true
		}
	}
	return 0, false
}
