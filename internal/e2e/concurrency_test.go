package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
)

// TestSixteenImages scans sixteen images, of which some are the same, in one call, and
// the same in eight processes with one cache in Redis: the reports are those of
// `trivy image`.
func TestSixteenImages(t *testing.T) {
	registry := testregistry.Start(t)
	var references []string
	var want []map[string]any
	for _, spec := range []testimage.Spec{testimage.Tiny(t), testimage.SecretCmd(t)} {
		repository := publish(t, registry, spec)
		trivys := report(t, "trivy", slices.Concat([]string{"image", "--cache-dir", t.TempDir(), repository + ":oci"}, scanFlags)...)
		require.NotZero(t, count(trivys, "Secrets"))
		for range 4 {
			for _, tag := range []string{":v5", ":v6"} {
				references, want = append(references, repository+tag), append(want, trivys)
			}
		}
	}
	require.NotEqual(t, normalized(t, want[0]), normalized(t, want[8]), "or it would not show whose report is whose")
	many := func(args ...string) {
		output := filepath.Join(t.TempDir(), "reports.jsonl")
		r := run(t, "trivy-nydus", slices.Concat(scanFlags, []string{"--format", "json", "--output", output}, args, references)...)
		if !assert.Zero(t, r.code, r.stderr) {
			return
		}
		data, err := os.ReadFile(output)
		if !assert.NoError(t, err) {
			return
		}
		lines := strings.Split(strings.TrimSpace(string(data)), "\n")
		if !assert.Len(t, lines, len(references)) {
			return
		}
		for i, line := range lines {
			one := filepath.Join(t.TempDir(), "one.json")
			assert.NoError(t, os.WriteFile(one, []byte(line), 0o600))
			assertSame(t, want[i], decode(t, one))
		}
	}
	many("--cache-dir", t.TempDir())

	redis := startRedis(t)
	shared := t.TempDir()
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() { many("--cache-dir", shared, "--cache-backend", redis) })
	}
	group.Wait()
}
