package artifact

import (
	"context"
	"fmt"
	"slices"

	"github.com/samber/lo"

	"github.com/aquasecurity/trivy/pkg/fanal/analyzer"
	ftypes "github.com/aquasecurity/trivy/pkg/fanal/types"
)

// slicesinks are the sinks of one slice: what is found in hidden files is
// believed less, and deleted ones are seen by fewer analyzers than replaced
// ones.
type slicesinks struct {
	shown  *sink
	hidden map[visibility]*sink
}

func (a *Artifact) newSliceSinks(w *work) (_ *slicesinks, err error) {
	s := &slicesinks{hidden: make(map[visibility]*sink)}
	defer func() {
		if err != nil {
			s.cleanup()
		}
	}()
	if s.shown, err = a.newSink(slices.Concat(w.disabled(shown, a.desk), packageDatabases)); err != nil {
		return nil, err
	}
	for _, seen := range []visibility{replaced, deleted} {
		if s.hidden[seen], err = a.newSink(slices.Concat(w.disabled(seen, a.desk), packageDatabases)); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// of is the sink for files of the given visibility.
func (s *slicesinks) of(seen visibility) *sink {
	if seen == shown {
		return s.shown
	}
	return s.hidden[seen]
}

func (s *slicesinks) all() []*sink {
	return []*sink{s.shown, s.hidden[replaced], s.hidden[deleted]}
}

// setSystemFiles tells which files packages of the operating system brought, once the
// package databases are known.
func (s *slicesinks) setSystemFiles(d *database) {
	// Layers share them, and Trivy's handlers append.
	s.shown.result.SystemInstalledFiles = slices.Clip(d.trusted.names)
	s.hidden[replaced].result.SystemInstalledFiles = slices.Clip(d.claimed.names)
}

func (s *slicesinks) cleanup() {
	for _, sink := range s.all() {
		if sink != nil {
			_ = sink.composite.Cleanup()
		}
	}
}

// blobInfo puts together what was found in one slice, as Trivy's image artifact
// does for a layer.
func (a *Artifact) blobInfo(ctx context.Context, w *work, s *slicesinks) (ftypes.BlobInfo, error) {
	layer := &a.layers[w.layer]
	info := ftypes.BlobInfo{
		SchemaVersion: ftypes.BlobJSONSchemaVersion,
		Size:          w.size,
		Digest:        layer.digest,
		DiffID:        layer.diffID,
		CreatedBy:     layer.createdBy,
		WhiteoutFiles: w.whiteouts,
		PackageInfos:  w.packageInfos(),
	}
	for _, sink := range s.all() {
		part, err := a.finish(ctx, sink)
		if err != nil {
			return info, fmt.Errorf("layer %d: %w", w.layer+1, err)
		}
		if sink != s.shown {
			w.keepHidden(&part)
		} else {
			info.OS, info.Repository, info.BuildInfo = part.OS, part.Repository, part.BuildInfo
			info.CustomResources = part.CustomResources
		}
		info.Misconfigurations = append(info.Misconfigurations, part.Misconfigurations...)
		info.Licenses = append(info.Licenses, part.Licenses...)
		info.PackageInfos = append(info.PackageInfos, part.PackageInfos...)
		info.Applications = append(info.Applications, part.Applications...)
		info.Secrets = append(info.Secrets, part.Secrets...)
	}
	sortInfo(&info)
	return info, nil
}

// finish runs the analyzers that read files together, and Trivy's handlers.
func (a *Artifact) finish(ctx context.Context, s *sink) (ftypes.BlobInfo, error) {
	defer a.analyzing.Start()()
	a.dropUnchecked(s)
	if err := a.group.PostAnalyze(ctx, s.composite, s.result, a.options()); err != nil {
		return ftypes.BlobInfo{}, fmt.Errorf("analyze files together: %w", err)
	}
	r := s.result
	part := ftypes.BlobInfo{
		OS:                r.OS,
		Repository:        r.Repository,
		PackageInfos:      r.PackageInfos,
		Applications:      r.Applications,
		Misconfigurations: r.Misconfigurations,
		Secrets:           r.Secrets,
		Licenses:          r.Licenses,
		CustomResources:   r.CustomResources,
		BuildInfo:         r.BuildInfo,
	}
	if err := a.handlers.PostHandle(ctx, r, &part); err != nil {
		return ftypes.BlobInfo{}, fmt.Errorf("handle results: %w", err)
	}
	return part, nil
}

// sortInfo puts findings in the order that Trivy gives them.
func sortInfo(info *ftypes.BlobInfo) {
	sorted := analyzer.AnalysisResult{
		PackageInfos:      info.PackageInfos,
		Applications:      info.Applications,
		Misconfigurations: info.Misconfigurations,
		Secrets:           info.Secrets,
		Licenses:          info.Licenses,
		CustomResources:   info.CustomResources,
	}
	sorted.Sort() // in place
}

// artifactInfo analyzes the image's config.
func (a *Artifact) artifactInfo(ctx context.Context, found ftypes.OS) ftypes.ArtifactInfo {
	config := a.image.Config
	result := lo.FromPtr(a.config.AnalyzeImageConfig(ctx, found, config))
	return ftypes.ArtifactInfo{
		SchemaVersion:    ftypes.ArtifactJSONSchemaVersion,
		Architecture:     config.Architecture,
		Created:          config.Created.Time,
		DockerVersion:    config.DockerVersion,
		OS:               config.OS,
		Misconfiguration: result.Misconfiguration,
		Secret:           result.Secret,
		HistoryPackages:  result.HistoryPackages,
	}
}
