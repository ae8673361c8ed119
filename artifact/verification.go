package artifact

import (
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
)

// What of the report's sources the manifest does not vouch for.
const (
	// unverifiedBootstrap is a layer's own bootstrap: it says which files the layer
	// brought and which later layers hide.
	unverifiedBootstrap = "layer-bootstrap"
	// unverifiedHidden are hidden files: each chunk matched its digest in such a
	// bootstrap.
	unverifiedHidden = "hidden-files"
	// unverifiedDigests are digests of chunks that only the blobs carry.
	unverifiedDigests = "chunk-digests"
	// unverifiedNydusd are bytes that nydusd gave.
	unverifiedNydusd = "nydusd-reads"
	// unverifiedDocument is a document that is attached to the image, in whose place it
	// was scanned: the manifest does not name it.
	unverifiedDocument = "attached-document"
)

// Unverified is something that the report comes from and that was not verified down
// to the manifest digest.
type Unverified struct {
	What   string `json:"what"`           // one of the words above
	Blob   string `json:"blob,omitempty"` // the layer's; absent for what concerns all
	Files  int    `json:"files,omitempty"`
	Reason string `json:"reason"`
}

// fillVerification says how far what the report comes from was verified, whether it
// was read now or for the results in the cache: their keys say the same.
func (a *Artifact) fillVerification(e *Evidence) {
	e.Unverified = nil
	switch m := a.mount; m.Verified {
	case nydusmount.Verified, nydusmount.VerifiedWhole:
	case nydusmount.Unvouched:
		e.Unverified = append(e.Unverified, Unverified{What: unverifiedDigests, Reason: "the manifest does not vouch for the digests of the chunks"})
	case nydusmount.VerifiedByNydusd:
		e.Unverified = append(e.Unverified, Unverified{What: unverifiedNydusd, Reason: "nydusd compares chunks with their digests; that it did is its word"})
	default:
		e.Unverified = append(e.Unverified, Unverified{What: unverifiedNydusd, Reason: string(m.Verified)})
	}
	for n, w := range a.works {
		if !w.tree || w.treeVouched {
			continue
		}
		s := &e.Slices[n]
		e.Unverified = append(e.Unverified, Unverified{What: unverifiedBootstrap, Blob: s.Blob, Reason: "the manifest names the digest of its blob only, which was not read whole"})
		if s.Hidden > 0 {
			e.Unverified = append(e.Unverified, Unverified{What: unverifiedHidden, Blob: s.Blob, Files: s.Hidden, Reason: "their chunks matched digests in the layer's own bootstrap"})
		}
	}
	e.ToManifest = len(e.Unverified) == 0
}

// HiddenUnverified is how many hidden files the report comes from that the manifest
// does not vouch for.
func (e *Evidence) HiddenUnverified() (files int) {
	for i := range e.Unverified {
		if u := &e.Unverified[i]; u.What == unverifiedHidden {
			files += u.Files
		}
	}
	return files
}
