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

// TestSixteenImages scans sixteen images in one call, and the same in eight
// processes with one cache in Redis: the reports are those of each alone.
func TestSixteenImages(t *testing.T) {
	registry := testregistry.Start(t)
	repository := publish(t, registry, testimage.Tiny(t))
	want := make(map[string]map[string]any)
	var references []string
	for _, tag := range []string{"v5", "v6"} {
		want[tag] = report(t, "trivy-nydus", slices.Concat(scanFlags, []string{"--cache-dir", t.TempDir(), repository + ":" + tag})...)
		references = append(references, slices.Repeat([]string{repository + ":" + tag}, 8)...)
	}
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
			_, tag, _ := strings.Cut(references[i][len(registry.Host()):], ":")
			assertSame(t, want[tag], decode(t, one))
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
