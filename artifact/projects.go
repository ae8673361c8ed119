package artifact

import (
	"context"
	"fmt"

	"github.com/aquasecurity/trivy/pkg/fanal/analyzer"
	ftypes "github.com/aquasecurity/trivy/pkg/fanal/types"
	"github.com/aquasecurity/trivy/pkg/mapfs"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/projects"
)

// scanProjects takes from the sinks what could lead Trivy's scanners out of the image, and
// has it scanned apart: of all layers at once, since that takes a process which compiles
// checks.
func (a *Artifact) scanProjects(ctx context.Context, works []*work, sinks map[*work]*slicesinks) error {
	if a.our.Projects == nil {
		return nil
	}
	var found []projects.Project
	var of []*sink
	for _, w := range works {
		for _, s := range sinks[w].all() {
			some, err := s.takeProjects(a.option.DetectionPriority, a.hasPattern)
			if err != nil {
				return fmt.Errorf("layer %d: %w", w.layer+1, err)
			}
			for _, p := range some {
				found, of = append(found, p), append(of, s)
			}
		}
	}
	if len(found) == 0 {
		return nil
	}
	a.log.Info("Scanning Ansible or Terraform projects. What they name outside of the image does not exist for them (--allow-unconfined)")
	defer a.analyzing.Start()()
	results, err := a.our.Projects.Scan(ctx, found, func(size int64) error {
		return a.image.Limits().Temp.Take("copies of files for the analyzers that read files together", uint64(size))
	})
	if err != nil {
		return fmt.Errorf("scan Ansible and Terraform projects: %w", err)
	}
	for n, s := range of {
		s.result.Merge(&analyzer.AnalysisResult{Misconfigurations: results[n]})
	}
	return nil
}

// takeProjects takes what those scanners are about out of the sink, without the files that
// Trivy skips: nothing of it is left for this process.
func (s *sink) takeProjects(priority ftypes.DetectionPriority, patterns func(analyzer.Type) bool) (found []projects.Project, err error) {
	for _, t := range projects.Types() {
		files, some := s.composite.Get(t)
		if !some {
			continue
		}
		if priority != ftypes.PriorityComprehensive {
			if files, err = files.Filter(s.result.SystemInstalledFiles); err != nil {
				return nil, err
			}
		}
		if patterns(t) || projects.LooksAt(t, files) {
			found = append(found, projects.Project{Type: t, Files: files})
		}
		s.composite.Set(t, mapfs.New())
	}
	return found, nil
}
