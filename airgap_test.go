package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// command is trivy-nydus with the fixture databases, in a fresh cache.
func command(t *testing.T, cache string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("trivy-nydus", args...)
	cmd.Env = append(os.Environ(), offline(cache)...)
	cmd.Stderr = os.Stderr
	return cmd
}

func fixtureCache(t *testing.T) string {
	t.Helper()
	cache := filepath.Join(t.TempDir(), "cache")
	require.NoError(t, makeFixtures(cache))
	return cache
}

// TestNoConnection: the scan of a layout asks for nothing outside. All HTTP
// would go through a proxy, which counts.
func TestNoConnection(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	var connections atomic.Int64
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			c.Close()
		}
	}()
	proxy := "http://" + listener.Addr().String()
	cmd := command(t, fixtureCache(t), "--quiet", "--scanners", "vuln,secret,misconfig,license", demoLayout+":v6")
	cmd.Env = append(cmd.Env, "HTTP_PROXY="+proxy, "HTTPS_PROXY="+proxy, "NO_PROXY=")
	out, err := cmd.Output()
	require.NoError(t, err)
	require.Contains(t, string(out), "CVE-2021-44906")
	require.Zero(t, connections.Load(), "connections to the proxy")
}

// TestWithoutNetwork scans where there is no network at all, not even loopback.
func TestWithoutNetwork(t *testing.T) {
	isolate := []string{"unshare", "--net"}
	if os.Geteuid() != 0 {
		isolate = append(isolate, "--map-root-user")
	}
	if out, err := exec.Command(isolate[0], append(isolate[1:], "true")...).CombinedOutput(); err != nil {
		t.Skipf("SKIPPED, the scan without a network is not tested: %v: %v: %s", isolate, err, out)
	}
	inside, err := exec.Command(isolate[0], append(isolate[1:], "cat", "/proc/net/route")...).Output()
	require.NoError(t, err)
	require.NotContains(t, string(inside), "\t0003\t", "routes inside the namespace")

	cache := fixtureCache(t)
	want, err := command(t, cache, "--quiet", "--scanners", "vuln,secret", demoLayout+":v6").Output()
	require.NoError(t, err)
	alone := command(t, fixtureCache(t), "--quiet", "--scanners", "vuln,secret", demoLayout+":v6")
	cmd := exec.Command(isolate[0], append(isolate[1:], alone.Args...)...)
	cmd.Env, cmd.Stderr = alone.Env, os.Stderr
	got, err := cmd.Output()
	require.NoError(t, err)
	require.Equal(t, string(want), string(got))
	require.Contains(t, string(got), "CVE-2021-44906")
}
