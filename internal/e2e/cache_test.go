package e2e

import (
	"fmt"
	"net"

	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
)

var allScanners = append(slices.Clone(offline), "--scanners", "vuln,secret,misconfig,license", "--list-all-pkgs")

// fetched are the paths that the registry was asked for, without the question
// whether it is there.
func fetched(p *testregistry.Proxy) (manifests, blobs []testregistry.Request) {
	for _, r := range p.Log() {
		switch {
		case r.IsManifest():
			manifests = append(manifests, r)
		case r.IsBlob():
			blobs = append(blobs, r)
		}
	}
	return manifests, blobs
}

// TestSecondScanFetchesManifestAndConfig is what a warm cache is for.
func TestSecondScanFetchesManifestAndConfig(t *testing.T) {
	registry := testregistry.Start(t)
	publish(t, registry, testimage.DebianApp(t))
	proxy := testregistry.CountingProxy(t, registry.Host())
	for _, tag := range []string{"v5", "v6"} {
		args := append(slices.Clone(allScanners), "--cache-dir", cacheDir(t), proxy.Host()+"/test/debian-app:"+tag)
		cold := report(t, "trivy-nydus", args...)
		proxy.Reset()
		warm := report(t, "trivy-nydus", args...)
		assertSame(t, cold, warm)
		manifests, blobs := fetched(proxy)
		assert.Len(t, manifests, 1, tag)
		require.Len(t, blobs, 1, "the config and nothing else")
		assert.Less(t, blobs[0].Bytes, int64(64<<10))
	}
}

// TestSiblingFetchesOnlyNewBlobs scans an image on top of one that is known.
func TestSiblingFetchesOnlyNewBlobs(t *testing.T) {
	base, upper := testimage.Debian(t), testimage.Debian(t)
	upper.Name = "sibling"
	upper.Layers = append(slices.Clone(upper.Layers), testimage.Join(testimage.NodeLayer(t, "lodash@4.17.20")).WithParents())
	registry := testregistry.Start(t)
	publish(t, registry, base)
	publish(t, registry, upper)
	proxy := testregistry.CountingProxy(t, registry.Host())
	for _, tag := range []string{"v5", "v6"} {
		cache := cacheDir(t)
		report(t, "trivy-nydus", append(slices.Clone(allScanners), "--cache-dir", cache, proxy.Host()+"/test/debian:"+tag)...)
		known := make(map[string]bool)
		_, blobs := fetched(proxy)
		for _, r := range blobs {
			known[r.Path[strings.LastIndex(r.Path, "/"):]] = true
		}
		proxy.Reset()
		got := report(t, "trivy-nydus", append(slices.Clone(allScanners), "--cache-dir", cache, proxy.Host()+"/test/sibling:"+tag)...)
		_, blobs = fetched(proxy)
		for _, r := range blobs {
			assert.False(t, known[r.Path[strings.LastIndex(r.Path, "/"):]], "%s of the base is fetched again: %s", r.Path, r.Range)
		}
		want := report(t, "trivy-nydus", append(slices.Clone(allScanners), "--cache-dir", cacheDir(t), proxy.Host()+"/test/sibling:"+tag)...)
		assertSame(t, want, got)
	}
}

// TestBaseLayerSecretsInEitherOrder scans an image and its child, in whose
// history the image's layers are those of a base, with one cache. Trivy itself
// answers by what it scanned first; we as it does with an empty cache.
func TestBaseLayerSecretsInEitherOrder(t *testing.T) {
	parent := testimage.SecretCmd(t)
	child := testimage.SecretCmd(t)
	child.Name = "secret-child"
	child.Layers = append(child.Layers, testimage.Layer{testimage.Text("srv/app/note", "nothing to hide\n")}.WithParents())
	child.History = []v1.History{
		{Created: v1.Time{Time: testimage.DefaultTime}, CreatedBy: "COPY layer1 / # buildkit"},
		testimage.EmptyHistory(`CMD ["sh"]`),
		{Created: v1.Time{Time: testimage.DefaultTime}, CreatedBy: "COPY note / # buildkit"},
		testimage.EmptyHistory(`CMD ["serve"]`),
	}
	registry := testregistry.Start(t)
	repositories := []string{publish(t, registry, parent), publish(t, registry, child)}
	want := make([]map[string]any, 2)
	for i, r := range repositories {
		want[i] = report(t, "trivy", append([]string{"image", "--cache-dir", t.TempDir(), r + ":oci"}, scanFlags...)...)
	}
	require.NotEmpty(t, list(want[0]["Results"]), "the parent's secret is found")
	require.Empty(t, list(want[1]["Results"]), "in the child it is the base image's")
	for _, tag := range []string{"v5", "v6"} {
		for _, order := range [][]int{{0, 1}, {1, 0}} {
			cache := t.TempDir()
			for _, i := range append(order, order...) {
				got := report(t, "trivy-nydus", append([]string{"--cache-dir", cache, repositories[i] + ":" + tag}, scanFlags...)...)
				assertSame(t, want[i], got)
			}
		}
	}
}

// TestFlagsChangeTheKey scans one image with one cache and changing flags.
func TestFlagsChangeTheKey(t *testing.T) {
	registry := testregistry.Start(t)
	repository := publish(t, registry, testimage.DebianApp(t))
	config := filepath.Join(t.TempDir(), "secret.yaml")
	require.NoError(t, os.WriteFile(config, []byte("disable-rules: [github-pat]\n"), 0o644))
	cache := cacheDir(t)
	for _, flags := range [][]string{
		nil,
		{"--skip-dirs", "srv"},
		{"--skip-files", "**/deploy.env"},
		{"--pkg-types", "os"},
		{"--detection-priority", "comprehensive"},
		{"--secret-config", config},
		{"--file-patterns", "pip:.*settings.*"},
		nil,
	} {
		args := slices.Concat(allScanners, flags)
		want := report(t, "trivy", append([]string{"image", "--cache-dir", cacheDir(t), repository + ":oci"}, args...)...)
		got := report(t, "trivy-nydus", append([]string{"--cache-dir", cache, repository + ":v6"}, args...)...)
		t.Run(fmt.Sprint(flags), func(t *testing.T) { assertSame(t, want, got) })
	}
}

// TestManyScansAtOnce shares one filesystem cache, whose lock Trivy waits five
// seconds for.
func TestManyScansAtOnce(t *testing.T) {
	registry := testregistry.Start(t)
	repository := publish(t, registry, testimage.DebianApp(t))
	want := report(t, "trivy-nydus", append([]string{"--cache-dir", cacheDir(t), repository + ":v6"}, allScanners...)...)
	for _, scans := range []int{2, 8} {
		cache := cacheDir(t)
		var group sync.WaitGroup
		got := make([]map[string]any, scans)
		for i := range scans {
			group.Go(func() {
				got[i] = report(t, "trivy-nydus", append([]string{"--cache-dir", cache, repository + ":v6"}, allScanners...)...)
			})
		}
		group.Wait()
		for _, g := range got {
			assertSame(t, want, g)
		}
	}
}

// startRedis runs a real Redis until the test ends, and returns its address as
// --cache-backend takes it.
func startRedis(t *testing.T) string {
	t.Helper()
	port := freePort(t)
	server := exec.Command("redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", t.TempDir())
	require.NoError(t, server.Start(), "run: make tools")
	t.Cleanup(func() { _ = server.Process.Kill(); _ = server.Wait() })
	waitFor(t, "127.0.0.1:"+port)
	return "redis://127.0.0.1:" + port
}

// TestRedis shares results between machines: another machine fetches metadata
// and no data.
func TestRedis(t *testing.T) {
	redis := startRedis(t)
	registry := testregistry.Start(t)
	publish(t, registry, testimage.DebianApp(t))
	proxy := testregistry.CountingProxy(t, registry.Host())
	args := append(slices.Clone(allScanners), "--cache-backend", redis, proxy.Host()+"/test/debian-app:v6")
	first := cacheDir(t)
	cold := report(t, "trivy-nydus", append(args, "--cache-dir", first)...)
	coldBytes := proxy.Bytes()

	proxy.Reset()
	evidence := filepath.Join(t.TempDir(), "evidence.json")
	other := report(t, "trivy-nydus", append(args, "--cache-dir", cacheDir(t), "--evidence", evidence)...)
	assertSame(t, cold, other)
	assert.Zero(t, decode(t, evidence)["scan"].(map[string]any)["chunksVerified"], "another machine reads no data")
	assert.Less(t, proxy.Bytes(), coldBytes/4)

	proxy.Reset()
	assertSame(t, cold, report(t, "trivy-nydus", append(args, "--cache-dir", first)...))
	_, blobs := fetched(proxy)
	assert.Len(t, blobs, 1, "this machine has a record: the config and nothing else")
}

// TestServer looks packages up on a real Trivy server.
func TestServer(t *testing.T) {
	port := freePort(t)
	const token = "let-me-in"
	server := start(t, "trivy", "server", "--listen", "127.0.0.1:"+port, "--token", token, "--cache-dir", cacheDir(t), "--skip-db-update", "--quiet")
	t.Cleanup(func() { _ = server.Process.Kill(); _ = server.Wait() })
	waitFor(t, "127.0.0.1:"+port)

	registry := testregistry.Start(t)
	repository := publish(t, registry, testimage.DebianApp(t))
	client := append(slices.Clone(allScanners), "--server", "http://127.0.0.1:"+port, "--token", token)
	want := report(t, "trivy", append([]string{"image", "--cache-dir", cacheDir(t), repository + ":oci"}, client...)...)
	require.NotEmpty(t, list(want["Results"]))
	for _, tag := range []string{"v5", "v6"} {
		cache := cacheDir(t)
		for range 2 {
			got := report(t, "trivy-nydus", append([]string{"--cache-dir", cache, repository + ":" + tag}, client...)...)
			assertSame(t, want, got)
		}
	}
	r := run(t, "trivy-nydus", append(slices.Clone(offline), "--server", "http://127.0.0.1:"+port, "--token", "wrong", "--cache-dir", t.TempDir(), repository+":v6")...)
	assert.Equal(t, 2, r.code, r.stderr)
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	return port
}

func waitFor(t *testing.T, address string) {
	t.Helper()
	require.Eventually(t, func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
		}
		return err == nil
	}, 20*time.Second, 20*time.Millisecond, "nothing listens on %s", address)
}
