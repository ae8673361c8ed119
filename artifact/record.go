package artifact

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/aquasecurity/trivy/pkg/cache"
)

// kindRecord is where the metadata cache keeps records of scanned images.
const kindRecord = "records"

// A record says under which keys the results of an image were put into the
// scan cache: with it, and while the scan cache has them, an image is reported
// from its manifest and config alone.
type record struct {
	ImageKey     string
	Keys         []string // one a layer
	DiffIDs      []string // of the layers
	Compressed   int64    // bytes, for --max-image-size
	Uncompressed int64
	Evidence     Evidence
}

// recordName covers all that the keys depend on: the manifest, where the image was
// read, since the manifest does not vouch for layers' bootstraps, the way in which it
// is mounted, the analyzers and the options.
func (a *Artifact) recordName() (string, error) {
	parts, err := json.Marshal(struct {
		Manifest     string
		Origin       string
		Mount        string
		Config       any
		FileChecksum bool
		Unconfined   bool
	}{a.image.Digest.String(), a.image.Origin(), a.our.Mount, a.config.AnalyzerVersions(), a.option.FileChecksum, a.our.Projects == nil})
	if err != nil {
		return "", err
	}
	return cache.CalcKey(keyPrefix+string(parts), version, a.group.AnalyzerVersions(), a.handlers.Versions(), a.option)
}

// recorded looks the image up in the records, and its results in the cache.
func (a *Artifact) recorded(ctx context.Context, name string) (*record, error) {
	data := a.image.Metadata.Get(kindRecord, name)
	if data == nil {
		return nil, nil
	}
	var r record
	if json.Unmarshal(data, &r) != nil || len(r.Keys) == 0 || len(r.Keys) != len(r.DiffIDs) {
		return nil, nil
	}
	missingImage, missing, err := a.cache.MissingBlobs(ctx, r.ImageKey, r.Keys)
	if err != nil {
		return nil, fmt.Errorf("ask the cache what it has: %w", err)
	}
	if missingImage || len(missing) > 0 {
		return nil, nil
	}
	return &r, nil
}

// keep writes the record of an image whose results are in the cache.
func (a *Artifact) keep(name string, r record) {
	data, err := json.Marshal(r)
	if err != nil {
		return
	}
	_ = a.image.Metadata.Put(kindRecord, name, data) // without it the next scan is slower, no more
}

// use reports what a record says.
func (a *Artifact) use(r *record) error {
	if err := a.checkSize(r.Compressed, r.Uncompressed); err != nil {
		return err
	}
	a.evidence = r.Evidence
	a.evidence.FilesRead, a.evidence.Chunks, a.evidence.ChunkBytes, a.evidence.ChunksAgain = 0, 0, 0, 0
	a.evidence.NydusdRequests, a.evidence.NydusdBytes = 0, 0
	a.evidence.WholeBlobs, a.evidence.WholeBytes = 0, 0
	a.evidence.DecodingSeconds, a.evidence.AnalyzingSeconds = 0, 0
	for i := range a.evidence.Slices {
		a.evidence.Slices[i].FromCache = true
	}
	a.warn(r.Evidence.Warnings)
	return a.tell(r.Evidence.Notes)
}

// tell warns of what a person should know, or refuses the image for it.
func (a *Artifact) tell(notes []string) error {
	for _, note := range notes {
		if a.our.RequireLayers {
			return fmt.Errorf("%w: %s", ErrLayers, note)
		}
		a.our.warn(note)
	}
	return nil
}
