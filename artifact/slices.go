package artifact

import (
	"context"
	"fmt"
	"path"

	"github.com/aquasecurity/trivy/pkg/fanal/utils"
	"github.com/aquasecurity/trivy/pkg/fanal/walker"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// A visibility says what became of a file that a layer brought.
type visibility uint8

const (
	// shown: the image shows this very file.
	shown visibility = iota
	// replaced: a later layer puts something else under this path, or in place
	// of a directory above.
	replaced
	// deleted: a later layer deletes this path, and the image shows nothing there.
	deleted
)

// A file is a regular file of a slice: one path per inode, since Trivy reads
// the first entry of a tar and skips the links to it.
type file struct {
	path  string // without leading slash
	inode rafs.Inode
	view  *nydusmount.View
	seen  visibility
}

// A slice is what one layer of the image brought, as far as it is scanned.
type slice struct {
	layer int
	files []file // in walk order
	// size is what the layer's files would take in an uncompressed tar, bytes:
	// contents rounded up to 512 and 512 for each entry.
	size int64
	// whiteouts are paths of hidden files that this layer deletes. What the image
	// shows there, if anything, a layer from here on brings.
	whiteouts []string
	// tree says that the layer's own tree was used, so that hidden files are
	// among the files.
	tree bool
	// treeVouched says that the manifest vouches for that tree.
	treeVouched bool
}

// slicing is how an image is cut into slices.
type slicing struct {
	layers []layer
	slices []slice  // one a layer
	notes  []string // what a person should know about it
	// warnings are what a person should know of the image; they are no reason to
	// refuse it.
	warnings []string
	// contradicted says that the layers' trees contradict the image's.
	contradicted bool
}

// cutSlices assigns the files of an image to its layers. With trees of the layers
// that agree with the merged tree, these say which layer brought what, and
// which files are hidden. Otherwise a file belongs to the layer whose blob
// holds its data, and hidden files are not known.
func cutSlices(ctx context.Context, m *nydusmount.Mount, option walker.Option) (*slicing, error) {
	m, err := m.OfLayers(ctx)
	if err != nil {
		return nil, err
	}
	layers, err := layersOf(m)
	if err != nil {
		return nil, err
	}
	c := &slicing{layers: layers, slices: make([]slice, len(layers))}
	for i := range c.slices {
		c.slices[i].layer = i
	}
	skip := newSkipper(option)
	overlay, err := c.overlay(ctx, m)
	if err != nil {
		return nil, err
	}
	owner := byBlob(m, c.layers)
	if overlay != nil {
		owner = func(name string, _ []rafs.Chunk) (int, error) {
			layer, _ := overlay.Layer(name)
			return layer, nil
		}
	}
	if err := c.addShown(ctx, m, skip, owner, overlay != nil); err != nil {
		return nil, err
	}
	if overlay != nil {
		gone := newWhiteouts()
		for i := len(c.slices) - 1; i >= 0; i-- {
			if err := c.addHidden(ctx, m, i, skip, overlay, gone); err != nil {
				return nil, err
			}
		}
	}
	c.distrustHistory()
	return c, nil
}

// distrustHistory takes no layer for one of a base image if all files would lie in
// such layers: with a history that says so, an image could keep its secrets from
// being looked for.
func (c *slicing) distrustHistory() {
	bases := 0
	for i := range c.layers {
		if c.layers[i].base {
			bases++
		}
		if len(c.slices[i].files) > 0 && !c.layers[i].base {
			return
		}
	}
	if bases == 0 {
		return
	}
	for i := range c.layers {
		c.layers[i].base = false
	}
	c.warnings = append(c.warnings, "by its history, all files of the image would be those of a base image, in which Trivy looks for no secrets: they are looked for in all layers")
}

// overlay applies the layers' trees, and returns nil where they cannot be used.
func (c *slicing) overlay(ctx context.Context, m *nydusmount.Mount) (*nydusmount.Overlay, error) {
	if m.NoLayers != "" {
		c.notes = append(c.notes, m.NoLayers+": files that a later layer deleted or replaced are not scanned")
		return nil, nil
	}
	if !m.LayerTrees() {
		missing := 0
		for _, l := range m.Layers {
			if l == nil {
				missing++
			}
		}
		c.notes = append(c.notes, fmt.Sprintf("%d of %d layers carry no bootstrap of their own: files that a later layer deleted or replaced are not scanned", missing, len(m.Layers)))
		return nil, nil
	}
	overlay, err := m.Overlay(ctx)
	if err != nil {
		return nil, err
	}
	contradiction, err := overlay.Compare(ctx, m.Merged.Tree)
	if err != nil {
		return nil, err
	}
	if contradiction != nil {
		c.contradicted = true
		c.notes = append(c.notes, fmt.Sprintf("the layers' bootstraps contradict the image's and are not used (%v): files that a later layer deleted or replaced are not scanned", contradiction))
		return nil, nil
	}
	return overlay, nil
}

// byBlob finds a file's layer by the blob that holds its first chunk. A file
// without data belongs to the lowest layer.
func byBlob(m *nydusmount.Mount, list []layer) func(string, []rafs.Chunk) (int, error) {
	layers := make(map[string]int, len(list))
	for i := range list {
		layers[list[i].blobID] = i
	}
	return func(name string, chunks []rafs.Chunk) (int, error) {
		if len(chunks) == 0 {
			return 0, nil
		}
		layer, ok := layers[m.Merged.BlobID(chunks[0].Blob)]
		if !ok {
			return 0, fmt.Errorf("%s: its data lies in blob %s, which is no layer of the manifest", name, m.Merged.BlobID(chunks[0].Blob))
		}
		return layer, nil
	}
}

// addShown walks the merged tree.
func (c *slicing) addShown(ctx context.Context, m *nydusmount.Mount, skip *skipper, owner func(string, []rafs.Chunk) (int, error), trees bool) error {
	links := make(map[uint64]struct{})
	return m.Merged.WalkContext(ctx, func(name string, inode rafs.Inode) error {
		var chunks []rafs.Chunk
		if !trees && inode.IsRegular() {
			var err error
			if chunks, err = inode.Chunks(); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		layer, err := owner(name, chunks)
		if err != nil {
			return err
		}
		s := &c.slices[layer]
		s.tree = trees
		if !trees {
			s.size += tarSize(inode)
		}
		if scanned(name, inode, links) && !skip.skips(name) {
			s.files = append(s.files, file{path: name, inode: inode, view: m.Merged, seen: shown})
		}
		return nil
	})
}

// addHidden walks a layer's tree for what the image does not show of it. gone are
// the whiteouts of the layers above; this layer's are added.
func (c *slicing) addHidden(ctx context.Context, m *nydusmount.Mount, layer int, skip *skipper, overlay *nydusmount.Overlay, gone *whiteouts) error {
	s := &c.slices[layer]
	s.tree, s.treeVouched = true, m.Layers[layer].Vouched
	links := make(map[uint64]struct{})
	var own []string
	err := m.Layers[layer].WalkContext(ctx, func(name string, inode rafs.Inode) error {
		s.size += tarSize(inode)
		if nydusmount.IsWhiteout(name) {
			own = append(own, name)
		}
		if !scanned(name, inode, links) || skip.skips(name) {
			return nil
		}
		by, there := overlay.Layer(name)
		if there && by == layer {
			return nil
		}
		seen := replaced
		if upper, whited := gone.layer(name); whited {
			c.slices[upper].whiteouts = append(c.slices[upper].whiteouts, name)
			if !there {
				seen = deleted
			}
		}
		s.files = append(s.files, file{path: name, inode: inode, view: m.Layers[layer], seen: seen})
		return nil
	})
	for _, name := range own {
		gone.add(layer, name)
	}
	return err
}

// scanned says whether a scan looks at a path: a regular file, under the first
// of its names. An empty whiteout that survives in the lowest layer is none.
func scanned(name string, inode rafs.Inode, links map[uint64]struct{}) bool {
	if !inode.IsRegular() || inode.Size == 0 && nydusmount.IsWhiteout(name) {
		return false
	}
	if inode.Links > 1 {
		if _, known := links[inode.Number]; known {
			return false
		}
		links[inode.Number] = struct{}{}
	}
	return true
}

func tarSize(inode rafs.Inode) int64 {
	const block = 512
	if !inode.IsRegular() {
		return block
	}
	return block + (inode.Size+block-1)/block*block
}

// A skipper decides as Trivy's walker of image layers does.
type skipper struct {
	files, dirs []string
}

func newSkipper(option walker.Option) *skipper {
	return &skipper{files: utils.CleanSkipPaths(option.SkipFiles), dirs: utils.CleanSkipPaths(option.SkipDirs)}
}

func (s *skipper) skips(name string) bool {
	if len(s.files) > 0 && utils.SkipPath(name, s.files) {
		return true
	}
	if len(s.dirs) == 0 {
		return false
	}
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if utils.SkipPath(dir, s.dirs) {
			return true
		}
	}
	return false
}
