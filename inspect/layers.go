package inspect

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strconv"
	"text/tabwriter"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/blob"
)

// A Layer is a data layer of the manifest.
type Layer struct {
	Layer     int    `json:"layer"` // counted from 1, bottom first
	Digest    string `json:"digest"`
	Size      int64  `json:"size"` // of the blob, bytes
	MediaType string `json:"media_type"`
	DiffID    string `json:"diff_id"`
	// CreatedBy is the history's line, "" where the history does not have one for
	// each layer.
	CreatedBy string `json:"created_by,omitempty"`
	// BlobIndex is that of the layer's data in the blob table, nil where no file of
	// the image uses it.
	BlobIndex *int `json:"blob_index"`
	// Annotations are those of the manifest.
	Annotations map[string]string `json:"annotations,omitempty"`
	// Changes is there only if it was asked for.
	Changes *Changes `json:"changes,omitempty"`
}

// Changes count what a layer does to the layers below, by the trees that the
// blobs carry.
type Changes struct {
	Tree      bool `json:"tree"` // false: the blob carries none, nothing was counted
	Added     int  `json:"added"`
	Changed   int  `json:"changed"`
	Deleted   int  `json:"deleted"`
	Unchanged int  `json:"unchanged"` // paths that the layer repeats as they are
}

// layers lists the layers, as [Layer] values, or with a number what that layer
// changes, as [Change] values.
func layers(ctx context.Context, s *Session, c *Call) (Answer, error) {
	if s.image == nil {
		return nil, ErrNoImage
	}
	if text := c.arg(0, ""); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return nil, c.wrong("%q is no number of a layer", text)
		}
		return s.changesOf(ctx, n)
	}
	all := layerList{}
	for i := range s.image.Layers {
		l := &s.image.Layers[i]
		layer := Layer{
			Layer: i + 1, Digest: l.Digest.String(), Size: l.Size, MediaType: string(l.MediaType),
			DiffID: l.DiffID, CreatedBy: s.createdBy(i + 1), Annotations: l.Annotations,
		}
		if b := s.entry(l.BlobID()); b != nil {
			layer.BlobIndex = &b.Index
		}
		if c.changes {
			changes, err := s.countChanges(ctx, i+1)
			if err != nil {
				return nil, err
			}
			layer.Changes = changes
		}
		all = append(all, layer)
	}
	return all, nil
}

// countChanges is nil-safe about layers without a tree: they and those above
// cannot be counted.
func (s *Session) countChanges(ctx context.Context, layer int) (*Changes, error) {
	counts := &Changes{Tree: true}
	err := s.walkChanges(ctx, layer, func(c *Change) error {
		switch c.Change {
		case added:
			counts.Added++
		case changed:
			counts.Changed++
		case deleted:
			counts.Deleted++
		case unchanged:
			counts.Unchanged++
		}
		return nil
	})
	if errors.Is(err, blob.ErrNoTOC) {
		return &Changes{}, nil
	}
	return counts, err
}

type layerList []Layer

// Text implements [Answer].
func (all layerList) Text(w *bufio.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	counted := len(all) > 0 && all[0].Changes != nil
	fmt.Fprint(t, "LAYER\tBLOB\tSIZE\tDIGEST")
	if counted {
		fmt.Fprint(t, "\tADDED\tCHANGED\tDELETED")
	}
	fmt.Fprintln(t, "\tCREATED BY")
	for _, l := range all {
		index := "-"
		if l.BlobIndex != nil {
			index = strconv.Itoa(*l.BlobIndex)
		}
		fmt.Fprintf(t, "%d\t%s\t%d\t%s", l.Layer, index, l.Size, l.Digest)
		switch {
		case counted && l.Changes.Tree:
			fmt.Fprintf(t, "\t%d\t%d\t%d", l.Changes.Added, l.Changes.Changed, l.Changes.Deleted)
		case counted:
			fmt.Fprint(t, "\t?\t?\t?")
		}
		fmt.Fprintf(t, "\t%s\n", Escape(l.CreatedBy))
	}
	return t.Flush()
}
