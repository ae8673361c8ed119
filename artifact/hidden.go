package artifact

import (
	"slices"

	ftypes "github.com/aquasecurity/trivy/pkg/fanal/types"
)

// What is found in hidden files may add to a report, never remove or change what
// is found in shown ones: the manifest does not vouch for it. Trivy puts results
// together by the path that an analyzer names, and of packages with the same name
// and version it keeps one.

// keepHidden keeps of what was found in hidden files what bears the path of one:
// some documents name the paths of other files (the applications in an SBOM).
func (w *work) keepHidden(part *ftypes.BlobInfo) {
	hidden := w.hiddenPaths()
	part.Applications = slices.DeleteFunc(part.Applications, func(app ftypes.Application) bool { return !hidden[app.FilePath] })
	part.PackageInfos = slices.DeleteFunc(part.PackageInfos, func(info ftypes.PackageInfo) bool { return !hidden[info.FilePath] })
}

// packageInfos returns what the slice's package databases list. The packages of
// hidden ones bear the database's path, so that none takes the place of a shown one.
func (w *work) packageInfos() []ftypes.PackageInfo {
	hidden := w.hiddenPaths()
	infos := slices.Clone(w.database.result.PackageInfos)
	for i := range infos {
		info := &infos[i]
		if !hidden[info.FilePath] {
			continue
		}
		info.Packages = slices.Clone(info.Packages)
		for n := range info.Packages {
			if p := &info.Packages[n]; p.FilePath == "" {
				p.FilePath = info.FilePath
			}
		}
	}
	return infos
}

func (w *work) hiddenPaths() map[string]bool {
	hidden := make(map[string]bool)
	for n := range w.files {
		if f := &w.files[n]; f.seen != shown {
			hidden[f.path] = true
		}
	}
	return hidden
}
