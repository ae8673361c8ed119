//go:build linux

package bench

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/fixturedb"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
)

// The flags choose what is measured; lists are separated by ";", since names have commas.
var (
	outFlag      = flag.String("out", "", "measure, and write performance.csv and performance.svg into this folder, beside what is there already")
	imagesFlag   = flag.String("images", strings.Join(imageNames, ";"), "images")
	linksFlag    = flag.String("links", strings.Join(linkNames, ";"), "links")
	scannersFlag = flag.String("scanners", strings.Join(scannerSets, ";"), "sets of scanners")
	statesFlag   = flag.String("states", strings.Join(states, ";"), "states of the cache; of an earlier one the scans run, unmeasured")
	formsFlag    = flag.String("forms", "v6-zstd;v5-lz4_block;v6-zran", "forms of the Nydus image")
	toolsFlag    = flag.String("tools", strings.Join(tools, ";"), "tools; the baseline is always among them")
	runsFlag     = flag.Int("runs", 3, "measured runs of each")
	programsFlag = flag.String("programs", "../../bin", "folder with trivy and trivy-nydus")
	pushFlag     = flag.String("push", "", "of TestPush: host of the registry")
)

// links by their names.
var links = map[string]testregistry.Link{
	linkNames[0]: {},
	linkNames[1]: {BytesPerSecond: 1e9 / 8, RoundTrip: 2 * time.Millisecond},
	linkNames[2]: {BytesPerSecond: 100e6 / 8, RoundTrip: 20 * time.Millisecond},
	linkNames[3]: {BytesPerSecond: 100e6 / 8, RoundTrip: 20 * time.Millisecond, SingleRanges: true},
}

// TestBench measures, and asserts nothing but that all scans succeed.
func TestBench(t *testing.T) {
	if *outFlag == "" {
		t.Skip("measures, run by make bench")
	}
	requireKnown(t, *imagesFlag, imageNames)
	requireKnown(t, *linksFlag, linkNames)
	requireKnown(t, *statesFlag, states)
	requireKnown(t, *toolsFlag, tools)
	requireKnown(t, *formsFlag, slices.Collect(maps.Keys(forms)))
	b := newBench(t)
	file := filepath.Join(*outFlag, "performance.csv")
	var measured []Row
	for _, image := range chosen(*imagesFlag) {
		b.push(t, image)
		for _, scanners := range chosen(*scannersFlag) {
			for _, link := range chosen(*linksFlag) {
				rows := b.measure(t, Kind{Image: image, Link: link, Scanners: scanners})
				measured = append(measured, rows...)
				writeResults(t, file, rows) // a run may be cut off
				fmt.Fprintf(os.Stderr, "%s, %s, %s: measured\n", image, scanners, link)
			}
		}
	}
	require.NoError(t, WriteTable(os.Stdout, Merge(nil, measured)))
}

// chosen splits a flag.
func chosen(list string) []string { return strings.Split(list, ";") }

func requireKnown(t *testing.T, list string, known []string) {
	t.Helper()
	for _, name := range chosen(list) {
		require.Contains(t, known, name)
	}
}

// TestPush builds and pushes an image. It runs in a process of its own, since the images' files are kept in memory.
func TestPush(t *testing.T) {
	if *pushFlag == "" {
		t.Skip("is a part of TestBench")
	}
	specs := map[string]func(testing.TB) testimage.Spec{
		"tiny": testimage.Tiny, "debian": testimage.Debian, "wordpress": testimage.WordPress, "node": testimage.Node,
		"tensorflow": testimage.TensorFlow,
	}
	for _, image := range chosen(*imagesFlag) {
		spec := specs[image](t)
		sibling := spec
		sibling.Layers = append(slices.Clone(spec.Layers), testimage.NodeLayer(t, "lodash@4.17.20"))
		for repository, s := range map[string]testimage.Spec{image: spec, image + "-sibling": sibling} {
			if repository != image && !slices.Contains(chosen(*statesFlag), "sibling") {
				continue
			}
			oci := testimage.BuildOCI(t, s)
			repository = *pushFlag + "/bench/" + repository + ":"
			testimage.Push(t, repository+ociForm, oci)
			for _, form := range chosen(*formsFlag) {
				testimage.Push(t, repository+form, testimage.Convert(t, oci, forms[form]))
			}
		}
	}
}

// A bench is the registry, the proxy and the programs.
type bench struct {
	registry *testregistry.Registry
	proxy    *testregistry.Proxy
	programs map[string]string
	database string // folder with Trivy's databases
	folder   string // for what a scan reads and writes
	subjects []subject
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{registry: testregistry.Start(t), programs: map[string]string{}, database: t.TempDir(), folder: t.TempDir()}
	b.proxy = testregistry.CountingProxy(t, b.registry.Host())
	for _, name := range []string{"trivy", "trivy-nydus"} {
		b.programs[name] = copyProgram(t, filepath.Join(*programsFlag, name))
	}
	files, err := filepath.Glob("../../testdata/db/*.yaml")
	require.NoError(t, err)
	require.NoError(t, fixturedb.Make(b.database, files))
	for _, s := range subjects {
		if s.tool == Baseline || slices.Contains(chosen(*toolsFlag), s.tool) && slices.Contains(chosen(*formsFlag), s.form) {
			b.subjects = append(b.subjects, s)
		}
	}
	return b
}

// copyProgram returns the path of a copy. How much of a program the kernel maps, which counts as memory, depends on how its
// file was written: a linker's is in the page cache in larger pieces, and took a quarter more.
func copyProgram(t *testing.T, name string) string {
	t.Helper()
	from, err := os.Open(name)
	require.NoError(t, err, "run: make build trivy")
	defer from.Close()
	path := filepath.Join(t.TempDir(), filepath.Base(name))
	to, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o755)
	require.NoError(t, err)
	_, err = io.Copy(to, from)
	require.NoError(t, err)
	require.NoError(t, to.Close())
	return path
}

func (b *bench) push(t *testing.T, image string) {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	out, err := exec.Command(self, "-test.run=^TestPush$", "-test.timeout=0", "-push="+b.registry.Host(), "-images="+image,
		"-forms="+*formsFlag, "-states="+*statesFlag).CombinedOutput()
	require.NoError(t, err, "push %s: %s", image, out)
}

// key is what scans of a row have in common.
type key struct {
	subject
	state string
}

// measure has all subjects scan an image over a link, in turn, with an empty cache and with what that leaves. The run before
// the measured ones is over loopback; it warms the page cache, and there the disk is watched and the report looked at.
func (b *bench) measure(t *testing.T, kind Kind) []Row {
	t.Helper()
	until := 0
	for _, state := range chosen(*statesFlag) {
		until = max(until, slices.Index(states, state)+1)
	}
	scans := map[key][]Scan{}
	first := map[key]Row{}
	reports := map[key]report{}
	for run := range *runsFlag + 1 {
		if run == 0 {
			b.proxy.Shape(testregistry.Link{})
		} else {
			b.proxy.Shape(links[kind.Link])
		}
		for _, s := range b.subjects {
			cache := b.newCache(t)
			for _, state := range states[:until] {
				k, w := key{s, state}, b.newWorkplace(t, cache)
				before := diskUse(cache)
				stop := func() int64 { return 0 }
				if run == 0 {
					stop = watchDisk(w.temporary)
				}
				file := filepath.Join(w.home, "report.json")
				taken := b.scan(t, s, w, kind, state, file)
				if run == 0 {
					first[k] = Row{TemporaryDisk: stop(), CacheDisk: diskUse(cache) - before}
					reports[k] = readReport(t, file)
				} else {
					scans[k] = append(scans[k], taken)
				}
				w.remove(t)
			}
			require.NoError(t, os.RemoveAll(cache))
		}
	}
	var rows []Row
	for _, state := range chosen(*statesFlag) {
		baseline := key{b.subjects[0], state}
		for _, s := range b.subjects {
			k := key{s, state}
			kind.State, kind.Tool, kind.Form = state, s.tool, s.form
			row := Summarize(kind, scans[k], scans[baseline])
			row.TemporaryDisk, row.CacheDisk = first[k].TemporaryDisk, first[k].CacheDisk
			row.Findings, row.Packages = sum(reports[k].findings), sum(reports[k].packages)
			row.Missing, row.Added = reports[k].lacks(reports[baseline]), reports[baseline].lacks(reports[k])
			rows = append(rows, row)
		}
	}
	return Merge(nil, rows)
}

// scan measures one scan. Its report goes to file.
func (b *bench) scan(t *testing.T, s subject, w *workplace, kind Kind, state, file string) Scan {
	t.Helper()
	repository := kind.Image
	if state == "sibling" {
		repository += "-sibling"
	}
	flags := []string{"--offline-scan", "--skip-db-update", "--skip-java-db-update", "--skip-check-update", "--skip-version-check",
		"--disable-telemetry", "--quiet", "--timeout", "30m", "--scanners", kind.Scanners, "--format", "json", "--output", file}
	b.proxy.Reset()
	began := time.Now()
	taken := s.scan(t, w, fmt.Sprintf("%s/bench/%s:%s", b.proxy.Host(), repository, s.form), flags)
	taken.Time = time.Since(began)
	taken.Bytes, taken.Requests = b.proxy.Bytes(), b.proxy.Requests()
	return taken
}

// newCache is a cache with nothing but the databases.
func (b *bench) newCache(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(b.folder, "cache")
	require.NoError(t, err)
	for _, name := range []string{"db", "java-db"} {
		require.NoError(t, os.Symlink(filepath.Join(b.database, name), filepath.Join(dir, name)))
	}
	return dir
}

func (b *bench) newWorkplace(t *testing.T, cache string) *workplace {
	t.Helper()
	dir, err := os.MkdirTemp(b.folder, "scan")
	require.NoError(t, err)
	w := &workplace{programs: b.programs, cache: cache, home: filepath.Join(dir, "home"), temporary: filepath.Join(dir, "tmp")}
	require.NoError(t, os.Mkdir(w.home, 0o755))
	require.NoError(t, os.Mkdir(w.temporary, 0o755))
	return w
}

func (w *workplace) remove(t *testing.T) {
	t.Helper()
	require.NoError(t, os.RemoveAll(filepath.Dir(w.home)))
}

// writeResults puts rows among those of earlier runs, and draws the plot of all.
func writeResults(t *testing.T, file string, rows []Row) {
	t.Helper()
	var old []Row
	if raw, err := os.ReadFile(file); err == nil {
		old, err = ReadCSV(bytes.NewReader(raw))
		require.NoError(t, err, "%s: remove it to begin anew", file)
	}
	all := Merge(old, rows)
	var table, plot bytes.Buffer
	require.NoError(t, WriteCSV(&table, all))
	require.NoError(t, WritePlot(&plot, all))
	require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
	require.NoError(t, os.WriteFile(file, table.Bytes(), 0o644))
	require.NoError(t, os.WriteFile(strings.TrimSuffix(file, ".csv")+".svg", plot.Bytes(), 0o644))
}
