//go:build linux

package e2e

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
)

// TestKilled kills scans and checks at random moments, and TestSoakKilled at many more.
func TestKilled(t *testing.T)     { t.Parallel(); killScans(t, 6) }
func TestSoakKilled(t *testing.T) { soak(t); killScans(t, *soakSeeds) }

// killScans kills scans and checks in so many parts of their time, in each at a random moment:
// the plugin, or the trivy that runs it. What lives on ends by itself, the next scan
// with the cache gives the right report, and afterwards there is nothing but what a
// scan leaves that nobody killed.
func killScans(t *testing.T, parts int) {
	registry := testregistry.Start(t)
	home := pluginHome(t)
	for _, c := range []struct {
		spec  testimage.Spec
		tag   string
		flags []string
		parts int
		check bool // is what is killed
	}{
		{testimage.Tiny(t), "v6", scanFlags, parts, false},
		{testimage.DebianApp(t), "v5", allScanners, max(parts/3, 2), false}, // with package databases, which become temporary files
		{testimage.Tiny(t), "v5", append(slices.Clone(scanFlags), "--verify", "full"), max(parts/3, 2), false},
		{testimage.Tiny(t), "v6", scanFlags, max(parts/3, 2), true},
	} {
		repository := publish(t, registry, c.spec)
		run := func(who, temp, cache string, check bool) *process {
			args := slices.Concat(c.flags, []string{"--cache-dir", cache, "--format", "json", "--output", "report.json", repository + ":" + c.tag})
			if check {
				args = []string{"check", "--data", "full", "--cache-dir", cache, repository + ":oci", repository + ":" + c.tag}
			}
			if who == "trivy" {
				args = append([]string{"nydus"}, args...)
			}
			p := prepare(t, who, args...)
			p.Env = append(p.Env, "TMPDIR="+temp, "XDG_DATA_HOME="+home)
			require.NoError(t, p.Start())
			return p
		}
		whole := func(who, temp, cache string) map[string]any {
			p := run(who, temp, cache, false)
			r := p.wait(t)
			require.Zero(t, r.code, r.stderr)
			return decode(t, filepath.Join(p.Dir, "report.json"))
		}
		for _, who := range []string{"trivy-nydus", "trivy"} {
			cache := cacheDir(t)
			began := time.Now()
			r := run(who, t.TempDir(), cache, c.check).wait(t)
			require.Zero(t, r.code, r.stderr)
			length := time.Since(began)
			want, belongs := whole(who, t.TempDir(), cache), filesBelow(t, cache)
			require.NotEmpty(t, belongs)
			killed := 0
			for part := range c.parts {
				delay := time.Duration((float64(part) + rand.New(rand.NewPCG(uint64(part), 0)).Float64()) / float64(c.parts) * float64(length))
				t.Run(fmt.Sprintf("%s of %s:%s after %v", who, c.spec.Name, c.tag, delay.Round(time.Millisecond)), func(t *testing.T) {
					temp, cache := t.TempDir(), cacheDir(t)
					p := run(who, temp, cache, c.check)
					time.Sleep(delay)
					require.NoError(t, p.Process.Kill())
					if r := p.wait(t); r.code != 0 {
						killed++
					}
					eventually(t, "the processes are gone", func() bool { return len(processesOf(temp)) == 0 })
					assertSame(t, want, whole(who, temp, cache))
					assert.Empty(t, filesBelow(t, temp), "temporary files")
					if c.check { // a check keeps what a scan does not ask for, and may not have come so far
						assert.Subset(t, belongs, filesBelow(t, cache), "the cache")
						return
					}
					assert.Equal(t, belongs, filesBelow(t, cache), "the cache")
				})
			}
			assert.NotZero(t, killed, "%s was killed while it scanned", who)
		}
	}
}

// filesBelow lists what is in a folder, with the folders in it.
func filesBelow(t *testing.T, dir string) (names []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if path != dir {
			names = append(names, strings.TrimPrefix(path, dir+"/"))
		}
		return err
	}))
	return names
}
