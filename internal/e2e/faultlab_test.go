package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/pmezard/go-difflib/difflib"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
)

// A faultCase is a command on an image in a registry that may fail.
type faultCase struct {
	name string // scan, check or check full
	repo string
	tag  string // v5 or v6
}

func (c faultCase) String() string { return fmt.Sprintf("%s %s:%s", c.name, c.repo, c.tag) }

// A faultImage is one that is pushed, and what its blobs are.
type faultImage struct {
	repo  string
	kinds map[string]string // of blobs, by hexadecimal digest
	sizes map[string]int64
}

// publishFaulty pushes an image in all its forms.
func publishFaulty(t *testing.T, registry *testregistry.Registry, spec testimage.Spec) *faultImage {
	t.Helper()
	publish(t, registry, spec)
	image := &faultImage{repo: "test/" + spec.Name, kinds: make(map[string]string), sizes: make(map[string]int64)}
	add := func(d v1.Descriptor, kind string) {
		image.kinds[d.Digest.Hex], image.sizes[d.Digest.Hex] = kind, d.Size
	}
	oci := testimage.BuildOCI(t, spec)
	for tag, o := range map[string]testimage.ConvertOptions{
		"oci": {}, "v5": {FSVersion: "5", Compressor: "lz4_block"}, "v6": {FSVersion: "6", Compressor: "zstd"},
	} {
		image.kinds[tag] = tag
		manifest, err := oci.Manifest()
		if tag != "oci" {
			manifest, err = testimage.Convert(t, oci, o).Manifest()
		}
		require.NoError(t, err)
		add(manifest.Config, "config")
		for i, layer := range manifest.Layers {
			switch {
			case tag == "oci":
				add(layer, "OCI layer")
			case i == len(manifest.Layers)-1:
				add(layer, "bootstrap")
			default:
				add(layer, "data")
			}
		}
	}
	return image
}

// kind is what a step asks for.
func (i *faultImage) kind(s testregistry.Step) string {
	_, rest, _ := strings.Cut(s.Key, " GET ")
	path, byteRange, _ := strings.Cut(rest, " ")
	switch {
	case path == "/v2/":
		return "ping"
	case path == "/token":
		return "token"
	case strings.Contains(path, "/manifests/"):
		return "manifest"
	}
	digest := path[strings.LastIndex(path, ":")+1:]
	kind := i.kinds[digest]
	if last := fmt.Sprintf("-%d", i.sizes[digest]-1); kind == "data" && strings.HasSuffix(byteRange, last) {
		kind = "tail"
	}
	if strings.HasPrefix(s.Key, "registry") {
		return kind + "'s address"
	}
	return kind
}

// A faultLab runs commands against a registry of its own that fails.
type faultLab struct {
	*testregistry.FaultProxy
	dir string
}

func newFaultLab(t *testing.T, registry *testregistry.Registry) *faultLab {
	t.Helper()
	return &faultLab{testregistry.StartFaultProxy(t, registry.Host()), t.TempDir()}
}

// A faultRun is what came of one command.
type faultRun struct {
	result
	raw    []byte // the report
	report string // the same without what differs from run to run
	took   time.Duration
	left   []string // in the folder for temporary files
	cached bool
}

// runLimit ends a command that hangs: no fault takes so long.
const runLimit = 4 * time.Minute

// volatile is what differs between two reports on one image.
var volatile = regexp.MustCompile(`(?m)^\s*"(ReportID|CreatedAt|ArtifactID|seconds|requests|fetchedBytes)": .*\n`)

// run runs a case, in the cache of that name.
func (l *faultLab) run(c faultCase, cache string, flags ...string) (faultRun, error) {
	dir, err := os.MkdirTemp(l.dir, "run-")
	if err != nil {
		return faultRun{}, err
	}
	defer os.RemoveAll(dir)
	temporary := filepath.Join(dir, "tmp")
	if err := os.Mkdir(temporary, 0o700); err != nil {
		return faultRun{}, err
	}
	output := filepath.Join(dir, "report.json")
	repository := l.Host() + "/" + c.repo
	args := []string{"--cache-dir", cache, "--format", "json", "--output", output}
	switch c.name {
	case "scan":
		args = slices.Concat(scanFlags, []string{"--quiet"}, args, flags, []string{repository + ":" + c.tag})
	case "check":
		args = slices.Concat([]string{"check"}, args, flags, []string{repository + ":oci", repository + ":" + c.tag})
	case "check full":
		args = slices.Concat([]string{"check", "--data", "full"}, args, flags, []string{repository + ":oci", repository + ":" + c.tag})
	}
	ctx, cancel := context.WithTimeout(context.Background(), runLimit)
	defer cancel()
	command, err := program("trivy-nydus")
	if err != nil {
		return faultRun{}, err
	}
	p := &process{Cmd: exec.CommandContext(ctx, command, args...)}
	p.Dir = dir
	p.Env = append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME="+dir, "XDG_RUNTIME_DIR="+dir, "DOCKER_CONFIG="+dir, "TMPDIR="+temporary)
	p.Cmd.Stdout, p.Cmd.Stderr = &p.stdout, &p.stderr
	began := time.Now()
	err = p.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return faultRun{}, err
	}
	r := faultRun{result: result{p.ProcessState.ExitCode(), p.stdout.String(), p.stderr.String()}, took: time.Since(began)}
	if ctx.Err() != nil {
		return r, fmt.Errorf("it did not end in %v", runLimit)
	}
	text, err := os.ReadFile(output)
	if err != nil && !os.IsNotExist(err) {
		return r, err
	}
	r.raw = text
	r.report = strings.NewReplacer(l.Host(), "HOST", l.Storage(), "STORAGE").Replace(volatile.ReplaceAllString(string(text), ""))
	entries, err := os.ReadDir(temporary)
	for _, e := range entries {
		r.left = append(r.left, e.Name())
	}
	if err != nil {
		return r, err
	}
	results, err := os.ReadFile(filepath.Join(cache, "fanal", "fanal.db"))
	r.cached = err == nil && strings.Contains(string(results), "SchemaVersion")
	return r, nil
}

// A faultBaseline is a case when nothing fails.
type faultBaseline struct {
	report string
	scan   string // the report of a scan of the same image
	steps  []testregistry.Step
}

// scanned is the scan of the image that a case is about.
func (c faultCase) scanned() faultCase { return faultCase{"scan", c.repo, c.tag} }

func (l *faultLab) baseline(t *testing.T, c faultCase) *faultBaseline {
	t.Helper()
	l.Follow(nil)
	r, err := l.run(c, t.TempDir())
	require.NoError(t, err)
	require.Zero(t, r.code, "%s: %s", c, r.stderr)
	require.NotEmpty(t, r.report)
	if c.name == "scan" {
		require.Contains(t, r.report, "github-pat")
		return &faultBaseline{r.report, r.report, l.Steps()}
	}
	require.Contains(t, r.report, `"verdict": "equal"`)
	steps := l.Steps()
	return &faultBaseline{r.report, l.baseline(t, c.scanned()).report, steps}
}

// try runs a case whose registry fails by a schedule and says what came of it,
// "right" or "refused", and what is wrong with that. mustPass says that faults do
// not stay, so that nothing but the right report is right after those that a client gets over.
func (l *faultLab) try(c faultCase, want *faultBaseline, s *testregistry.Schedule, mustPass bool, within time.Duration, flags ...string) (outcome string, took time.Duration, wrong []string) {
	fail := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	cache, err := os.MkdirTemp(l.dir, "cache-")
	if err != nil {
		return "", 0, []string{err.Error()}
	}
	defer os.RemoveAll(cache)
	l.Follow(s)
	r, err := l.run(c, cache, flags...)
	l.Follow(nil) // a request that a killed client left may still be met
	if err != nil {
		return "", r.took, []string{err.Error()}
	}
	// Requests that go on beside each other are not always the same.
	mustPass = s.Injected == 0 || mustPass && s.Passes()
	if r.took > within {
		fail("it took %v, more than %v", r.took, within)
	}
	if len(r.left) > 0 {
		fail("left behind: %q", r.left)
	}
	switch {
	case r.code == 0 && r.report == want.report:
		outcome = "right"
	case r.code == 0:
		outcome = "WRONG"
		fail("another report: %s", difference(want.report, r.report))
	case r.code != 2:
		outcome = "WRONG"
		fail("exit code %d: %s", r.code, difference(want.report, r.report))
	default:
		outcome = "refused"
		l.checkRefusal(c, r, s, flags, fail)
	}
	if mustPass && outcome != "right" {
		fail("the fault went away, and so should it for the report: %s", r.stderr)
	}
	// Whatever came of it, and also where it was a check, the cache serves.
	switch next, err := l.run(c.scanned(), cache); {
	case err != nil:
		fail("a scan, with the same cache: %v", err)
	case next.code != 0 || next.report != want.scan:
		fail("a scan, with the same cache: exit code %d, %s, %s", next.code, next.stderr, difference(want.scan, next.report))
	}
	return outcome, r.took, wrong
}

// timedOut is what an error says that ended at a --timeout.
var timedOut = regexp.MustCompile(`took longer than \w+ \(--timeout\).*, waiting for `)

// checkRefusal looks at what a run that ended with exit code 2 says.
func (l *faultLab) checkRefusal(c faultCase, r faultRun, s *testregistry.Schedule, flags []string, fail func(string, ...any)) {
	lines := strings.Split(strings.TrimSpace(r.stderr), "\n")
	said := lines[max(0, len(lines)-2)]
	if !strings.HasPrefix(said, "error: ") || !strings.HasPrefix(lines[len(lines)-1], "hint: ") {
		fail("no error and hint: %s", r.stderr)
	}
	named := strings.Contains(said, l.Host()) || strings.Contains(said, l.Storage()) || digestName.MatchString(said)
	if !named {
		fail("neither host nor blob is named: %s", r.stderr)
	}
	if !s.Explains(said) && !(slices.Contains(flags, "--timeout") && timedOut.MatchString(said)) {
		fail("the cause is not named: %s", r.stderr)
	}
	if strings.Contains(r.stderr+r.report, "signed-for-one") || strings.Contains(r.stderr+r.report, "Bearer token-") {
		fail("secrets: %s", r.stderr)
	}
	if strings.Contains(r.stderr, "panic") || len(r.stderr) > 8<<10 {
		fail("a lot of text: %s", r.stderr)
	}
	if c.name == "scan" {
		if r.report != "" || r.stdout != "" {
			fail("there is a report")
		}
		if r.cached {
			fail("a result was cached")
		}
		return
	}
	var document struct {
		Verdict string `json:"verdict"`
	}
	if r.report != "" && (json.Unmarshal(r.raw, &document) != nil || document.Verdict != "incomplete") {
		fail("verdict %q", document.Verdict)
	}
}

// digestName is a digest, of which messages name the hexadecimal part alone where
// it is a blob ID.
var digestName = regexp.MustCompile(`[0-9a-f]{64}`)

// difference is the lines in which two reports differ.
func difference(want, got string) string {
	text, err := difflib.GetUnifiedDiffString(difflib.UnifiedDiff{A: difflib.SplitLines(want), B: difflib.SplitLines(got)})
	if err != nil {
		return err.Error()
	}
	return text
}
