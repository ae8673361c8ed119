package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
)

// behindProxy pushes an equal pair and returns it under the names of a proxy,
// with the digests of each image's lowest layer.
func behindProxy(t *testing.T) (p *testregistry.Proxy, oci, nydus string, ociLayer, blob v1.Hash) {
	t.Helper()
	registry := testregistry.Start(t)
	p = testregistry.CountingProxy(t, registry.Host())
	oci, nydus = checkPair(t, registry, testimage.ConvertOptions{})
	source := testimage.BuildOCI(t, checkSpec())
	layers, err := source.Layers()
	require.NoError(t, err)
	ociLayer, err = layers[0].Digest()
	require.NoError(t, err)
	blob = testimage.Convert(t, source, testimage.ConvertOptions{}).Blobs[0].Digest
	through := func(name string) string { return strings.Replace(name, registry.Host(), p.Host(), 1) }
	return p, through(oci), through(nydus), ociLayer, blob
}

// of says whether a request is for a blob.
func of(r *http.Request, digest v1.Hash) bool { return strings.HasSuffix(r.URL.Path, digest.String()) }

// TestCheckMissingBlob: of what the registry has not, nothing can be said.
func TestCheckMissingBlob(t *testing.T) {
	p, oci, nydus, _, blob := behindProxy(t)
	p.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if of(r, blob) {
			w.WriteHeader(http.StatusNotFound)
			return true
		}
		return false
	})
	for _, depth := range []string{"digest", "full"} {
		r := runCheck(t, "--data", depth, oci, nydus)
		assert.Equal(t, 2, r.code, "%s\n%s", r.stdout, r.stderr)
		assert.Contains(t, verdict(r), "not completed: ")
		assert.Contains(t, r.stderr, blob.String()+": ask for the first byte")
		assert.Contains(t, r.stderr, "missing from the registry")
	}
}

// TestCheckDamagedBlob flips one bit: digests in the metadata do not show it, and
// the verdict does not say that they do.
func TestCheckDamagedBlob(t *testing.T) {
	source := testimage.BuildOCI(t, checkSpec())
	for _, version := range []string{"5", "6"} {
		folder := t.TempDir()
		nydus := testimage.Convert(t, source, testimage.ConvertOptions{FSVersion: version})
		testimage.WriteLayout(t, folder, map[string]any{"oci": source, "nydus": nydus})
		name := filepath.Join(folder, "blobs/sha256", nydus.Blobs[0].Digest.Hex)
		data, err := os.ReadFile(name)
		require.NoError(t, err)
		data[10] ^= 1
		require.NoError(t, os.WriteFile(name, data, 0o644))

		r := runCheck(t, folder+":oci", folder+":nydus")
		assert.Zero(t, r.code, "%s\n%s", r.stdout, r.stderr)
		assert.Equal(t, "equal; blob data not read", verdict(r))
		r = runCheck(t, "--data", "full", folder+":oci", folder+":nydus")
		assert.Equal(t, 1, r.code, "%s\n%s", r.stdout, r.stderr)
		assert.Contains(t, r.stdout, "data: ")
		r = runCheck(t, "--data", "full", folder+":nydus")
		assert.Equal(t, 1, r.code, "%s\n%s", r.stdout, r.stderr)
	}
}

// TestCheckUnreadable: a side that cannot be read is neither equal nor different.
// What was found until then is reported.
func TestCheckUnreadable(t *testing.T) {
	p, oci, nydus, layer, blob := behindProxy(t)
	unreadable := func(digest v1.Hash) {
		p.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
			if of(r, digest) {
				w.WriteHeader(http.StatusForbidden)
				return true
			}
			return false
		})
	}
	for name, digest := range map[string]v1.Hash{"a layer of the OCI image": layer, "a blob of the Nydus image": blob} {
		t.Run(name, func(t *testing.T) {
			unreadable(digest)
			r := runCheck(t, "--data", "full", oci, nydus)
			assert.Equal(t, 2, r.code, "%s\n%s", r.stdout, r.stderr)
			assert.Contains(t, verdict(r), "not completed: ")
			assert.Contains(t, r.stderr, "error: ")
			assert.Contains(t, r.stderr, "hint: ")
			document := checkJSON(t, 2, oci, nydus)
			assert.Equal(t, "incomplete", document["verdict"])
		})
	}

	t.Run("with a difference", func(t *testing.T) {
		repository := strings.TrimSuffix(nydus, ":nydus")
		image := testimage.BuildOCI(t, checkSpec(func(s *testimage.Spec) { s.Config.User = "7" }))
		p.Intercept(nil)
		testimage.Push(t, repository+":altered", testimage.Convert(t, image, testimage.ConvertOptions{}))
		unreadable(layer)
		r := runCheck(t, oci, repository+":altered")
		assert.Equal(t, 2, r.code, "%s\n%s", r.stdout, r.stderr)
		assert.Contains(t, r.stdout, "! config.User")
		assert.Contains(t, verdict(r), "found until then: 2 differences")
	})

	t.Run("another layer than the manifest says", func(t *testing.T) {
		p.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
			if of(r, layer) && r.Method == http.MethodGet {
				body := &spoiled{ResponseWriter: w}
				p.Forward(body, r)
				return true
			}
			return false
		})
		r := runCheck(t, oci, nydus)
		assert.Equal(t, 2, r.code, "%s\n%s", r.stdout, r.stderr)
	})

	// The registry goes away after some of its answers.
	t.Run("down mid-way", func(t *testing.T) {
		var mu sync.Mutex
		blobs := 0
		p.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
			mu.Lock()
			defer mu.Unlock()
			if strings.Contains(r.URL.Path, "/blobs/") {
				blobs++
			}
			if blobs > 4 {
				panic(http.ErrAbortHandler)
			}
			return false
		})
		r := runCheck(t, "--data", "full", oci, nydus)
		assert.Equal(t, 2, r.code, "%s\n%s", r.stdout, r.stderr)
		assert.Contains(t, verdict(r), "not completed: ")
	})

	t.Run("no manifest", func(t *testing.T) {
		p.Intercept(nil)
		r := runCheck(t, oci+"-none", nydus)
		assert.Equal(t, 2, r.code)
		r = runCheck(t, oci, nydus+"-none")
		assert.Equal(t, 2, r.code)
	})
}

// spoiled flips a bit in each part of an answer.
type spoiled struct{ http.ResponseWriter }

func (s *spoiled) Write(p []byte) (int, error) {
	q := append([]byte{}, p...)
	if len(q) > 20 {
		q[20] ^= 1
	}
	return s.ResponseWriter.Write(q)
}

// stalled pushes a pair whose OCI layer does not come.
func stalled(t *testing.T) (oci, nydus string, asked <-chan struct{}) {
	t.Helper()
	p, oci, nydus, layer, _ := behindProxy(t)
	reached, end := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { close(end) })
	var once sync.Once
	p.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if !of(r, layer) {
			return false
		}
		once.Do(func() { close(reached) })
		select {
		case <-end:
		case <-r.Context().Done():
		}
		return true
	})
	return oci, nydus, reached
}

func TestCheckInterrupt(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		oci, nydus, asked := stalled(t)
		process := start(t, "trivy-nydus", "check", "--cache-dir", t.TempDir(), oci, nydus)
		<-asked
		require.NoError(t, process.Process.Signal(signal))
		r := process.wait(t)
		assert.Equal(t, 130, r.code, r.stderr)
		assert.Empty(t, r.stdout)
		assert.Contains(t, r.stderr, "interrupted")
	}
}

func TestCheckTimeout(t *testing.T) {
	oci, nydus, _ := stalled(t)
	r := runCheck(t, "--timeout", "2s", oci, nydus)
	assert.Equal(t, 2, r.code, r.stderr)
	assert.Contains(t, verdict(r), "not completed: the check took longer than 2s (--timeout): context deadline exceeded, waiting for 127.0.0.1:")
	assert.Contains(t, r.stderr, "give more time with --timeout")
}

// TestCheckCredentials has the images in two registries with different users.
// Neither is told the other's password.
func TestCheckCredentials(t *testing.T) {
	type user struct{ name, password string }
	users := []user{{"alice", "secret-of-alice"}, {"bob", "secret-of-bob"}}
	image := testimage.BuildOCI(t, checkSpec())
	nydus := testimage.Convert(t, image, testimage.ConvertOptions{})
	var names []string
	var mu sync.Mutex
	told := make([]map[user]bool, 2)
	for i, u := range users {
		registry := testregistry.Start(t, testregistry.WithHtpasswd(u.name, u.password))
		p := testregistry.CountingProxy(t, registry.Host())
		thing := []any{image, nydus}[i]
		testimage.Push(t, registry.Host()+"/test/check:tag", thing, remote.WithAuth(&authn.Basic{Username: u.name, Password: u.password}))
		told[i] = make(map[user]bool)
		p.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
			if name, password, ok := r.BasicAuth(); ok {
				mu.Lock()
				defer mu.Unlock()
				told[i][user{name, password}] = true
			}
			return false
		})
		names = append(names, p.Host()+"/test/check:tag")
	}
	r := runCheck(t, "--source-username", "alice", "--source-password", "secret-of-alice",
		"--target-username", "bob", "--target-password", "secret-of-bob", names[0], names[1])
	require.Zero(t, r.code, "%s\n%s", r.stdout, r.stderr)

	process := prepare(t, "trivy-nydus", "check", "--cache-dir", t.TempDir(), names[0], names[1])
	process.Env = append(process.Env, "TRIVY_SOURCE_USERNAME=alice", "TRIVY_SOURCE_PASSWORD=secret-of-alice",
		"TRIVY_TARGET_USERNAME=bob", "TRIVY_TARGET_PASSWORD=secret-of-bob")
	require.NoError(t, process.Start())
	r = process.wait(t)
	require.Zero(t, r.code, "%s\n%s", r.stdout, r.stderr)

	// --username is for the registry that has no flags of its own.
	r = runCheck(t, "--source-username", "alice", "--source-password", "secret-of-alice", "--username", "bob", "--password", "secret-of-bob", names[0], names[1])
	require.Zero(t, r.code, "%s\n%s", r.stdout, r.stderr)
	r = runCheck(t, "--username", "alice", "--password", "secret-of-alice", names[0], names[1])
	assert.Equal(t, 2, r.code)
	assert.Contains(t, r.stderr, "use --source-username or --target-username")
	r = runCheck(t, "--source-username", "alice", "--source-password", "secret-of-alice", names[0], names[1])
	assert.Equal(t, 2, r.code)
	assert.Contains(t, r.stderr, "hint: log in with")
	assert.Equal(t, map[user]bool{users[0]: true}, told[0])
	assert.Equal(t, map[user]bool{users[1]: true}, told[1])

	// Two images of one registry, one user.
	same := strings.Replace(names[1], "check:tag", "check:oci", 1)
	testimage.Push(t, same, image, remote.WithAuth(&authn.Basic{Username: "bob", Password: "secret-of-bob"}))
	r = runCheck(t, "--username", "bob", "--password", "secret-of-bob", same, names[1])
	require.Zero(t, r.code, "%s\n%s", r.stdout, r.stderr)
}

// TestCheckUsage: one line and one hint, nothing on stdout.
func TestCheckUsage(t *testing.T) {
	for _, c := range []struct {
		args []string
		says string
	}{
		{nil, "got 0 arguments"},
		{[]string{"a", "b", "c"}, "got 3 arguments"},
		{[]string{"--data", "some", "a", "b"}, "--data"},
		{[]string{"--limit", "-1", "a", "b"}, "--limit -1"},
		{[]string{"--ignore", "a[", "a", "b"}, `ignore "a["`},
		{[]string{"--format", "sarif", "a", "b"}, "--format"},
		{[]string{"--mount", "fuse", "a", "b"}, "--mount"},
		{[]string{"--frobnicate", "a", "b"}, "frobnicate"},
		{[]string{"--twin", "a", "b"}, "--twin"},
		{[]string{"--source-username", "x", "a", "b"}, "--source-username and --source-password go together"},
		{[]string{"--source-username", "x", "--source-password", "y", "a"}, "use --username"},
		{[]string{"../../testdata/demo:oci"}, "--twin"},
	} {
		if len(c.args) == 1 && strings.HasPrefix(c.args[0], "..") {
			path, err := filepath.Abs(c.args[0])
			require.NoError(t, err)
			c.args[0] = path
		}
		r := runCheck(t, c.args...)
		assert.Equal(t, 2, r.code, "%v", c.args)
		assert.Empty(t, r.stdout)
		lines := strings.Split(strings.TrimSpace(r.stderr), "\n")
		require.Len(t, lines, 2, r.stderr)
		assert.Contains(t, lines[0], c.says)
		assert.Equal(t, "hint: see trivy nydus check --help", lines[1])
	}
}

// TestCheckOrder: the images in the other order are no pair.
func TestCheckOrder(t *testing.T) {
	registry := testregistry.Start(t)
	oci, nydus := checkPair(t, registry, testimage.ConvertOptions{})
	for _, args := range [][]string{{nydus, oci}, {oci, oci}, {nydus, nydus}} {
		r := runCheck(t, args...)
		assert.Equal(t, 2, r.code)
		assert.Contains(t, r.stderr, "hint: give the OCI image first, then the Nydus image")
	}
}
