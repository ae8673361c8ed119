package artifact

import (
	"context"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// Evidence says what a scan read and what it was verified against. It is the
// artifact's part of the document that --evidence writes (docs/evidence.md).
type Evidence struct {
	ArtifactType string `json:"artifactType"`
	// SBOM is the type of the document that was attached to the image and
	// scanned instead of its files (--sbom-sources). Then there are no slices.
	SBOM   string          `json:"sbom,omitempty"`
	RAFS   int             `json:"rafsVersion,omitempty"`
	Slices []SliceEvidence `json:"slices"`
	Notes  []string        `json:"notes,omitempty"`
	// Warnings are what a person should know of the image itself.
	Warnings []string `json:"warnings,omitempty"`
	// FilesRead were handed to analyzers; FilesWanted are those that some
	// analyzer requires. What is wanted and not read comes from the cache or
	// cannot change the report.
	FilesWanted int `json:"filesWanted"`
	FilesRead   int `json:"filesRead"`
	// Chunks and ChunkBytes were decompressed and verified.
	Chunks     int64 `json:"chunksVerified"`
	ChunkBytes int64 `json:"chunkBytesVerified"`
	// ChunksAgain is how many of the chunks, or of the batches and slices in which they
	// lie, were decoded once more after they had been given up for want of memory.
	ChunksAgain int64 `json:"chunksDecodedAgain"`
	// DecodingSeconds went into decompressing and verifying, added up over the
	// goroutines that did it. AnalyzingSeconds is the time in which analyzers had
	// files; it includes their waits for what was not loaded ahead.
	DecodingSeconds  float64 `json:"decodingSeconds"`
	AnalyzingSeconds float64 `json:"analyzingSeconds"`
	// DataBytes are the stored bytes of the distinct chunks that were read.
	DataBytes int64 `json:"-"`
	// Verified says how far the bytes of the files were verified.
	Verified nydusmount.Verification `json:"verified,omitempty"`
	// ToManifest says whether all that the report comes from was verified down to the
	// digest of the manifest; Unverified lists what was not. Both speak of results
	// from the cache, too.
	ToManifest bool         `json:"verifiedToManifest"`
	Unverified []Unverified `json:"unverified,omitempty"`
	// WholeBlobs were read whole and compared with their digests (--verify full), and
	// have WholeBytes.
	WholeBlobs int64 `json:"blobsVerified"`
	WholeBytes int64 `json:"blobBytesVerified"`
	// Referred is how many bytes the OCI layers have in which data lies; the manifest
	// does not list them.
	Referred int64 `json:"referredBytes,omitempty"`
	// NydusdRequests and NydusdBytes are what nydusd read of the image's backend,
	// compressed bytes, by its own account (--mount nydusd).
	NydusdRequests int64 `json:"nydusdRequests,omitempty"`
	NydusdBytes    int64 `json:"nydusdBytes,omitempty"`
}

// SliceEvidence is how one layer's slice was read.
type SliceEvidence struct {
	Blob      string `json:"blob"`
	FromCache bool   `json:"fromCache"`
	// LayerBootstrap says that the layer's own bootstrap was used.
	LayerBootstrap bool `json:"layerBootstrap"`
	Shown          int  `json:"shownFiles"`
	// Hidden files were verified against the layer's bootstrap; see Unverified.
	Hidden int  `json:"hiddenFiles"`
	Base   bool `json:"baseLayer"`
}

// Evidence returns what the scan read. It is complete after Inspect.
func (a *Artifact) Evidence() Evidence { return a.evidence }

func (a *Artifact) fillEvidence(ctx context.Context, version rafs.Version, notes, missing []string) {
	fresh := make(map[string]bool, len(missing))
	for _, key := range missing {
		fresh[key] = true
	}
	e := Evidence{ArtifactType: string(Type), Notes: notes, RAFS: int(version)}
	for _, w := range a.works {
		s := SliceEvidence{
			Blob:           a.layers[w.layer].digest,
			FromCache:      !fresh[w.key],
			LayerBootstrap: w.tree,
			Base:           w.base,
		}
		for n := range w.files {
			if w.files[n].read {
				e.FilesRead++
			}
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
	e.Chunks, e.ChunkBytes, e.ChunksAgain = stats.Chunks, stats.Bytes, stats.ChunksAgain
	e.DataBytes = stats.Read
	e.DecodingSeconds, e.AnalyzingSeconds = stats.DecodingTime.Seconds(), a.analyzing.Elapsed().Seconds()
	e.Verified, e.Warnings = a.mount.Verified, a.warnings
	e.NydusdRequests, e.NydusdBytes = a.mount.Traffic(ctx)
	e.WholeBlobs, e.WholeBytes, e.Referred = a.mount.WholeBlobs, a.mount.WholeBytes, a.mount.Referred
	a.fillVerification(&e)
	a.evidence = e
}
