package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/fixturedb"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
)

// offline keeps Trivy from everything but the registry of the image.
var offline = []string{
	"--offline-scan", "--skip-db-update", "--skip-java-db-update", "--skip-check-update",
	"--skip-version-check", "--disable-telemetry",
}

// program is where make has built a command. With RACE that is the one under the race detector, whose reports end it with
// another exit code than any that a test expects.
func program(name string) (string, error) {
	folder := filepath.Join("..", "..", "bin")
	if os.Getenv("RACE") != "" && name == "trivy-nydus" {
		folder = filepath.Join(folder, "race")
	}
	return filepath.Abs(filepath.Join(folder, name))
}

// built is program, which must be there.
func built(t testing.TB, name string) string {
	t.Helper()
	path, err := program(name)
	require.NoError(t, err)
	require.FileExists(t, path, "run: make build trivy")
	return path
}

// A result is what a command left behind.
type result struct {
	code           int
	stdout, stderr string
}

// run runs a built command in an empty folder, with an empty home.
func run(t testing.TB, name string, args ...string) result {
	t.Helper()
	return start(t, name, args...).wait(t)
}

type process struct {
	*exec.Cmd
	stdout, stderr bytes.Buffer
}

func start(t testing.TB, name string, args ...string) *process {
	t.Helper()
	p := prepare(t, name, args...)
	require.NoError(t, p.Start())
	return p
}

func prepare(t testing.TB, name string, args ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(built(t, name), args...)}
	p.Dir = t.TempDir()
	p.Env = append(os.Environ(), "HOME="+p.Dir, "XDG_CONFIG_HOME="+p.Dir, "XDG_RUNTIME_DIR="+p.Dir, "DOCKER_CONFIG="+p.Dir)
	p.Cmd.Stdout, p.Cmd.Stderr = &p.stdout, &p.stderr
	return p
}

func (p *process) wait(t testing.TB) result {
	t.Helper()
	err := p.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	return result{p.ProcessState.ExitCode(), p.stdout.String(), p.stderr.String()}
}

var databases = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "trivy-nydus-e2e-")
	if err != nil {
		return "", err
	}
	files, err := filepath.Glob("../../testdata/db/*.yaml")
	if err != nil {
		return "", err
	}
	return dir, fixturedb.Make(dir, files)
})

func TestMain(m *testing.M) {
	// Below nohup all commands that are started would ignore a hangup, too. One that
	// is caught here is theirs again.
	if signal.Ignored(syscall.SIGHUP) {
		signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	}
	code := m.Run()
	if dir, err := databases(); err == nil {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// cacheDir is an empty Trivy cache with the fixture databases.
func cacheDir(t testing.TB) string {
	t.Helper()
	made, err := databases()
	require.NoError(t, err)
	dir := t.TempDir()
	for _, name := range []string{"db", "java-db"} {
		require.NoError(t, os.Symlink(filepath.Join(made, name), filepath.Join(dir, name)))
	}
	return dir
}

// report runs a command that must succeed and decodes its JSON report.
func report(t testing.TB, name string, args ...string) map[string]any {
	t.Helper()
	file := filepath.Join(t.TempDir(), "report.json")
	r := run(t, name, append(args, "--format", "json", "--output", file)...)
	require.Zero(t, r.code, "%s\n%s", r.stdout, r.stderr)
	return decode(t, file)
}

func decode(t testing.TB, file string) map[string]any {
	t.Helper()
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	var decoded map[string]any
	require.NoError(t, json.Unmarshal(data, &decoded))
	return decoded
}

// publish pushes an image and its Nydus twins, tags oci, v5 and v6, and returns
// the repository.
func publish(t testing.TB, r *testregistry.Registry, spec testimage.Spec) string {
	t.Helper()
	repository := r.Host() + "/test/" + spec.Name
	oci := testimage.BuildOCI(t, spec)
	testimage.Push(t, repository+":oci", oci)
	for tag, options := range map[string]testimage.ConvertOptions{
		"v5": {FSVersion: "5", Compressor: "lz4_block"},
		"v6": {FSVersion: "6", Compressor: "zstd"},
	} {
		testimage.Push(t, repository+":"+tag, testimage.Convert(t, oci, options))
	}
	return repository
}
