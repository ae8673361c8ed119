package artifact

import (
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aquasecurity/trivy/pkg/fanal/analyzer"
	"github.com/aquasecurity/trivy/pkg/fanal/artifact"
	ftypes "github.com/aquasecurity/trivy/pkg/fanal/types"
	"github.com/aquasecurity/trivy/pkg/misconf"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/projects"
)

// TestChecksAreCompiledIfNeeded: where there is something that a check could be about, and
// there only.
func TestChecksAreCompiledIfNeeded(t *testing.T) {
	const large = smallFile + 1
	for name, c := range map[string]struct {
		file, text string
		option     func(*artifact.Option)
		our        Options
		want       int32
	}{
		"nothing":          {file: "usr/bin/tool", text: "text"},
		"no JSON":          {file: "etc/broken.json", text: "{"},
		"JSON, unchecked":  {file: "etc/settings.json", text: "{}", our: Options{RawChecks: func() bool { return false }}},
		"Kubernetes":       {file: "srv/pod.json", text: `{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {}}`, want: 1, our: Options{RawChecks: func() bool { return false }}},
		"YAML, no chart":   {file: "etc/settings.yaml", text: "a: b\n", our: Options{RawChecks: func() bool { return false }}},
		"a chart":          {file: "srv/Chart.yaml", text: "name: b\n", want: 1, our: Options{RawChecks: func() bool { return false }}},
		"JSON":             {file: "etc/settings.json", text: "{}", want: 1},
		"a large JSON":     {file: "etc/settings.json", text: `{"a": "` + strings.Repeat("x", large) + `"}`, want: 1},
		"a large YAML":     {file: "etc/settings.yaml", text: "a: " + strings.Repeat("x", large), want: 1},
		"a Dockerfile":     {file: "srv/Dockerfile", text: "FROM scratch\n", want: 1},
		"Terraform":        {file: "srv/main.tf", text: "variable \"a\" {}\n", want: 1},
		"Terraform, apart": {file: "srv/main.tf", text: "variable \"a\" {}\n", our: Options{Projects: &projects.Scanner{}}},
		"own checks":       {file: "usr/bin/tool", text: "text", our: Options{OwnChecks: true}, want: 1},
		"the config": {file: "usr/bin/tool", text: "text", want: 1, option: func(o *artifact.Option) {
			o.DisabledAnalyzers = nil
		}},
		"a named file": {file: "srv/tool.conf", text: "text", want: 1, option: func(o *artifact.Option) {
			o.FilePatterns = []string{"kubernetes:tool"}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			option := artifact.Option{
				Parallel:          5,
				DisabledAnalyzers: []analyzer.Type{analyzer.TypeHistoryDockerfile, analyzer.TypeAnsible},
				DisabledHandlers:  []ftypes.HandlerType{ftypes.UnpackagedPostHandler},
			}
			if c.option != nil {
				c.option(&option)
			}
			var compiled atomic.Int32
			analyzers, err := NewAnalyzers(option, func() (misconf.ScannerOption, error) {
				compiled.Add(1)
				return misconf.ScannerOption{FilePatterns: option.FilePatterns}, nil
			})
			require.NoError(t, err)
			dir := t.TempDir()
			spec := testimage.Spec{Name: "checks", Layers: []testimage.Layer{testimage.Layer{testimage.Text(c.file, c.text)}.WithParents()}}
			testimage.WriteLayout(t, dir, map[string]any{"v6": testimage.Convert(t, testimage.BuildOCI(t, spec), testimage.ConvertOptions{FSVersion: "6"})})
			results, metadata := newCaches(t)
			if _, err := inspectImage(t, analyzers, dir+":v6", results, metadata, c.our); c.our.Projects == nil { // which takes the real command
				require.NoError(t, err)
			}
			assert.Equal(t, c.want, min(compiled.Load(), 1))
		})
	}
}
