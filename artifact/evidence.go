package artifact

import (
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
)

// Evidence says what a scan read and what it was verified against. It is the
// artifact's part of the document that --evidence writes (docs/evidence.md).
type Evidence struct {
	ArtifactType string `json:"artifactType"`
	// SBOM is the type of the document that was attached to the image and
	// scanned instead of its files (--sbom-sources). Then there are no slices.
	SBOM   string          `json:"sbom,omitempty"`
	Slices []SliceEvidence `json:"slices"`
	Notes  []string        `json:"notes,omitempty"`
	// FilesRead were handed to analyzers; FilesWanted are those that some
	// analyzer requires. What is wanted and not read comes from the cache or
	// cannot change the report.
	FilesWanted int `json:"filesWanted"`
	FilesRead   int `json:"filesRead"`
	// Chunks and ChunkBytes were decompressed and verified.
	Chunks     int64 `json:"chunksVerified"`
	ChunkBytes int64 `json:"chunkBytesVerified"`
}

// SliceEvidence is how one layer's slice was read.
type SliceEvidence struct {
	Blob      string `json:"blob"`
	FromCache bool   `json:"fromCache"`
	// LayerBootstrap says that the layer's own bootstrap was used.
	LayerBootstrap bool `json:"layerBootstrap"`
	Shown          int  `json:"shownFiles"`
	// Hidden files were verified against the layer's bootstrap, for which the
	// manifest does not vouch.
	Hidden int  `json:"hiddenFiles"`
	Base   bool `json:"baseLayer"`
}

// Evidence returns what the scan read. It is complete after Inspect.
func (a *Artifact) Evidence() Evidence { return a.evidence }

// Mount returns the image that is scanned.
func (a *Artifact) Mount() *nydusmount.Mount { return a.mount }

func (a *Artifact) fillEvidence(c *Cut, missing []string) {
	fresh := make(map[string]bool, len(missing))
	for _, key := range missing {
		fresh[key] = true
	}
	e := Evidence{ArtifactType: string(Type), Notes: c.Notes, FilesRead: a.read}
	for _, w := range a.works {
		s := SliceEvidence{
			Blob:           hash(a.mount.Image.Layers[w.layer].Digest),
			FromCache:      !fresh[w.key],
			LayerBootstrap: w.tree,
			Base:           w.base,
		}
		for n := range w.files {
			if w.files[n].seen == shown {
				s.Shown++
			} else {
				s.Hidden++
			}
		}
		e.FilesWanted += len(w.files)
		e.Slices = append(e.Slices, s)
	}
	stats := a.mount.Stats()
	e.Chunks, e.ChunkBytes = stats.Chunks, stats.Bytes
	a.evidence = e
}
