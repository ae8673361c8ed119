package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
)

// TestNothingIsFetchedTwice looks at the ranges of a cold scan with all
// scanners.
func TestNothingIsFetchedTwice(t *testing.T) {
	registry := testregistry.Start(t)
	spec := testimage.DebianApp(t)
	testimage.Push(t, publish(t, registry, spec)+":zran", testimage.Convert(t, testimage.BuildOCI(t, spec), testimage.ConvertOptions{OCIRef: true}))
	proxy := testregistry.CountingProxy(t, registry.Host())
	for _, tag := range []string{"v5", "v6", "zran"} {
		t.Run(tag, func(t *testing.T) {
			proxy.Reset()
			evidence := filepath.Join(t.TempDir(), "evidence.json")
			report(t, "trivy-nydus", append(slices.Clone(offline), "--cache-dir", cacheDir(t), "--evidence", evidence,
				"--scanners", "vuln,secret,misconfig,license", proxy.Host()+"/test/debian-app:"+tag)...)
			type span struct{ from, to int64 }
			ranges := make(map[string][]span)
			for _, r := range proxy.Log() {
				if r.Range == "" || !r.IsBlob() {
					continue
				}
				for one := range strings.SplitSeq(strings.TrimPrefix(r.Range, "bytes="), ",") {
					var s span
					_, err := fmt.Sscanf(one, "%d-%d", &s.from, &s.to)
					require.NoError(t, err, r.Range)
					ranges[r.Path] = append(ranges[r.Path], s)
				}
			}
			require.NotEmpty(t, ranges)
			assert.EqualValues(t, 0, decode(t, evidence)["scan"].(map[string]any)["chunksDecodedAgain"])
			// Small gaps between wanted chunks are fetched along, and may hold what
			// had been fetched before.
			var total, again int64
			for _, spans := range ranges {
				slices.SortFunc(spans, func(a, b span) int { return int(a.from - b.from) })
				end := int64(-1)
				for _, s := range spans {
					total += s.to - s.from + 1
					again += max(0, min(end, s.to)-s.from+1)
					end = max(end, s.to)
				}
			}
			assert.Less(t, again, total/50, "%d of %d bytes were fetched twice", again, total)
			whole := decode(t, evidence)["image"].(map[string]any)["sizeBytes"].(float64)
			assert.Less(t, float64(total), whole, "of an image in OCI layers these count")
		})
	}
}

// TestFetchesLittleMoreThanNeeded holds scans to what a scan of these analyzers cannot
// do without, by their own account, which the registry's bears out, and to few requests.
func TestFetchesLittleMoreThanNeeded(t *testing.T) {
	registry := testregistry.Start(t)
	spec := testimage.DebianApp(t)
	publish(t, registry, spec)
	proxy := testregistry.CountingProxy(t, registry.Host())
	for _, tag := range []string{"v5", "v6"} {
		for _, scanners := range []string{"vuln", "vuln,secret,misconfig"} {
			t.Run(tag+" "+scanners, func(t *testing.T) {
				proxy.Reset()
				evidence := filepath.Join(t.TempDir(), "evidence.json")
				report(t, "trivy-nydus", append(slices.Clone(offline), "--cache-dir", cacheDir(t), "--evidence", evidence,
					"--scanners", scanners, proxy.Host()+"/test/debian-app:"+tag)...)
				traffic := decode(t, evidence)["traffic"].(map[string]any)
				bytes, floor := traffic["bytes"].(float64), traffic["floorBytes"].(float64)
				assert.EqualValues(t, proxy.Bytes(), bytes, "the registry's account")
				assert.LessOrEqual(t, floor, bytes)
				assert.LessOrEqual(t, bytes, 1.1*floor)
				assert.LessOrEqual(t, float64(proxy.Requests()), 3*bytes/1e6+5*float64(len(spec.Layers)), "requests for %.0f bytes", bytes)
				clients := make(map[string]bool)
				for _, r := range proxy.Log() {
					clients[r.Client] = true
				}
				assert.LessOrEqual(t, len(clients), min(16, proxy.Requests()*3/4), "connections for %d requests", proxy.Requests())
				assert.Positive(t, traffic["waitingSeconds"])
				scan := decode(t, evidence)["scan"].(map[string]any)
				assert.Positive(t, scan["decodingSeconds"])
				assert.Positive(t, scan["analyzingSeconds"])
			})
		}
	}
}

// TestWhatCannotChangeTheReport: what analyzers ask for is not read where it cannot change
// the report, and read where it can. The reports are those of TestSameReportAsTrivyImage.
func TestWhatCannotChangeTheReport(t *testing.T) {
	registry := testregistry.Start(t)
	seldom, debian := publish(t, registry, testimage.Seldom(t)), publish(t, registry, testimage.DebianApp(t))
	scan := func(image string, flags ...string) (read, wanted float64, text string) {
		evidence, file := filepath.Join(t.TempDir(), "evidence.json"), filepath.Join(t.TempDir(), "report.json")
		r := run(t, "trivy-nydus", slices.Concat(offline, []string{"--cache-dir", cacheDir(t), "--evidence", evidence, "--list-all-pkgs",
			"--format", "json", "--output", file}, flags, []string{image + ":v6"})...)
		require.Zero(t, r.code, r.stderr)
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		e := decode(t, evidence)["scan"].(map[string]any)
		return e["filesRead"].(float64), e["filesWanted"].(float64), string(data)
	}
	// Of four packages' 16 files their METADATA, and two licenses.
	read, wanted, text := scan(seldom, "--scanners", "vuln", "--pkg-types", "library", "--detection-priority", "comprehensive")
	assert.Equal(t, 2, strings.Count(text, `"MIT"`), text)
	assert.EqualValues(t, 10, wanted-read)
	// A layer without an Ansible project is read for one in vain.
	read, wanted, text = scan(seldom, "--scanners", "misconfig", "--misconfig-scanners", "ansible")
	assert.Contains(t, text, "public-read", "what a file without an extension says")
	assert.Less(t, read, wanted-15)
	read, wanted, _ = scan(seldom, "--scanners", "misconfig", "--misconfig-scanners", "ansible", "--file-patterns", "ansible:nothing")
	assert.Equal(t, wanted, read, "who names files for an analyzer has all read")
	// Programs of the operating system's packages.
	read, wanted, _ = scan(debian, "--scanners", "vuln")
	assert.Less(t, read, wanted*3/4)
	all, wanted, _ := scan(debian, "--scanners", "vuln", "--detection-priority", "comprehensive")
	assert.Less(t, read, all)
	assert.Less(t, all, wanted, "Python's")
}

// TestOpeningCostsNothing scans for a thing that no file of the image can hold:
// metadata is read, no data.
func TestOpeningCostsNothing(t *testing.T) {
	registry := testregistry.Start(t)
	repository := publish(t, registry, testimage.Odd(t))
	evidence := filepath.Join(t.TempDir(), "evidence.json")
	report(t, "trivy-nydus", append(slices.Clone(offline), "--cache-dir", cacheDir(t), "--scanners", "vuln",
		"--pkg-types", "os", "--evidence", evidence, repository+":v6")...)
	e := decode(t, evidence)
	assert.EqualValues(t, 0, e["scan"].(map[string]any)["chunksVerified"], "no analyzer of OS packages wants a file of this image")
	assert.Less(t, e["traffic"].(map[string]any)["bytes"].(float64), e["image"].(map[string]any)["sizeBytes"].(float64)/10)
}

// TestContradictingLayers puts another image's layer below the image's own, of
// which the merged bootstrap shows nothing: the scan goes on without the layers'
// bootstraps and says so, or is refused.
func TestContradictingLayers(t *testing.T) {
	odd := testimage.Convert(t, testimage.BuildOCI(t, testimage.Odd(t)), testimage.ConvertOptions{})
	foreign, err := os.ReadFile(odd.Blobs[0].Path)
	require.NoError(t, err)
	l := newLayout(t, "6")
	l.manifest.Layers = slices.Insert(l.manifest.Layers, 0, v1.Descriptor{
		MediaType: testimage.MediaTypeNydusBlob, Annotations: map[string]string{testimage.AnnotationBlob: "true"},
	})
	l.replaceLayer(t, 0, foreign)
	r := run(t, "trivy-nydus", append(slices.Clone(scanFlags), "--cache-dir", t.TempDir(), "--format", "json", "--output", filepath.Join(t.TempDir(), "r"), l.dir)...)
	require.Zero(t, r.code, r.stderr)
	assert.True(t, strings.Contains(r.stderr, "contradict"), r.stderr)
	refused(t, []string{"--require-layers", l.dir}, "--require-layers", "contradict")
}
