package testimage

import (
	"path"
	"strings"
)

// Flatten applies the layers in order as a container runtime does and returns what the image shows, by path. Hard
// links stand under each of their names with the content and attributes of what they link to. Directories that no
// layer names are not in it.
func Flatten(layers ...Layer) map[string]File {
	tree := map[string]File{}
	for _, l := range layers {
		applyWhiteouts(tree, l)
		own := map[string]File{}
		for _, f := range l {
			if strings.HasPrefix(path.Base(f.Path), whiteoutPrefix) {
				continue
			}
			if f.Type == HardLink {
				target, ok := own[f.Link]
				if !ok {
					target = tree[f.Link]
				}
				name := f.Path
				f = target
				f.Path = name
			}
			if old, ok := tree[f.Path]; ok && (old.Type != Directory || f.Type != Directory) {
				remove(tree, f.Path, true)
			}
			tree[f.Path], own[f.Path] = f, f
		}
	}
	return tree
}

// applyWhiteouts removes what the whiteouts of l name. They speak of the layers below only, so they go first.
func applyWhiteouts(tree map[string]File, l Layer) {
	for _, f := range l {
		dir, base := path.Dir(f.Path), path.Base(f.Path)
		switch {
		case base == opaqueName:
			remove(tree, dir, false)
		case strings.HasPrefix(base, whiteoutPrefix):
			remove(tree, path.Join(dir, strings.TrimPrefix(base, whiteoutPrefix)), true)
		}
	}
}

// remove deletes all below name, and name itself if asked.
func remove(tree map[string]File, name string, itself bool) {
	if itself {
		delete(tree, name)
	}
	for p := range tree {
		if strings.HasPrefix(p, name+"/") || name == "." {
			delete(tree, p)
		}
	}
}
