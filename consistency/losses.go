package consistency

import (
	"fmt"
	"time"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// knownLosses tells what every converter or server loses from what is different.
type knownLosses struct {
	source *ociTree
	tree   *rafs.Tree
	// served says that another program serves the tree.
	served bool
}

// sift takes notes out of differences. A note that is the same for many paths
// names the first.
func (k *knownLosses) sift(all []Difference) (differences []Difference, notes []Note) {
	counts := make(map[string]int) // by text
	for _, d := range all {
		text := k.note(d)
		if text == "" {
			differences = append(differences, d)
			continue
		}
		if counts[text]++; counts[text] == 1 {
			notes = append(notes, Note{Path: d.Path, Text: text})
		}
	}
	for i := range notes {
		if more := counts[notes[i].Text] - 1; more > 0 {
			notes[i].Text += fmt.Sprintf(" (and %d more paths)", more)
		}
	}
	return differences, notes
}

// note says of a difference that is none why; else it is "".
func (k *knownLosses) note(d Difference) string {
	switch {
	case d.Path == "." && d.Field == "mtime":
		return "converters do not keep the time of the root directory"
	case d.Path == "." && k.source.root.touched && isDefaultRoot(d.Target):
		return "the converter takes the root directory from the uppermost layer, which does not name it"
	case k.served && d.Field == "mtime" && d.Source != nil && d.Source.MTime.Equal(time.Unix(0, 0)) && k.isEpoch(d.Path):
		return "nydusd shows the time of its own start where the image says 1970-01-01 00:00:00"
	}
	return ""
}

// isEpoch says whether the image's metadata has the time 0 for a path.
func (k *knownLosses) isEpoch(path string) bool {
	inode, err := k.tree.Lookup(path)
	return err == nil && inode.MTime == 0 && inode.MTimeNsec == 0
}

// isDefaultRoot says whether a root directory is as a converter makes one that
// no layer names.
func isDefaultRoot(n *Node) bool {
	return n != nil && n.Mode == typeDir|0o755 && n.UID == 0 && n.GID == 0 && len(n.Xattrs) == 0
}
