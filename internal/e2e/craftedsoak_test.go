package e2e

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
)

// What one run may take on an image that is as large as the default bounds allow:
// docs/security.md has what was measured.
const (
	soakMemory = 8 << 30
	soakTime   = 5 * time.Minute
)

// TestSoakBounds: images that reach the default bounds, and what a scan, a check and
// inspect take of each. It wants 20 GB of memory, most of it to make them.
func TestSoakBounds(t *testing.T) {
	soak(t)
	const names, chunkRecord = 1_997_000, 80
	// Numbers of names, and of chunks in a file that analyzers want. A name takes 140
	// bytes of the bootstrap.
	for name, c := range map[string]struct {
		names, chunks int
		read          bool // what has the names is read
		layer         bool // the layer has all names, too, and half of the chunks: a tail counts as stored and as read
	}{
		"2,000,000 names":                       {names: names},
		"2,000,000 names, and in the layer":     {names: names, layer: true},
		"2,000,000 files that are read":         {names: names, read: true},
		"1 GB of chunks in one file":            {chunks: 990_000_000 / chunkRecord},
		"1 GB of chunks, half in the layer too": {chunks: 990_000_000 / chunkRecord, layer: true},
		"1 GB of names and chunks in one file":  {names: names, chunks: (990_000_000 - 144*names) / chunkRecord},
	} {
		t.Run(name, func(t *testing.T) {
			files := make([]testimage.CraftedFile, 0, c.names+1)
			for i := range c.names {
				f := testimage.CraftedFile{Path: fmt.Sprintf("srv/%04d/%03d", i/1000, i%1000)}
				if c.read {
					f.Size, f.Hole = 64, true // small ones are not looked into for secrets
				}
				files = append(files, f)
			}
			raw := []byte("#")
			if c.chunks > 0 {
				f := testimage.CraftedFile{Path: "opt/.env", Size: uint64(c.chunks), Hole: true, Chunks: make([]testimage.CraftedChunk, c.chunks)}
				one := testimage.CraftedChunk{Stored: 1, Size: 1, Digest: sha256.Sum256(raw)}
				for k := range f.Chunks {
					one.FileOffset = uint64(k)
					f.Chunks[k] = one
				}
				files = append(files, f)
			}
			crafted := testimage.Crafted{Merged: files, Raw: raw}
			if c.layer {
				inLayer := slices.Clone(files)
				if f := &inLayer[len(inLayer)-1]; f.Chunks != nil {
					f.Chunks = f.Chunks[:c.chunks/2-1000]
					f.Size = uint64(len(f.Chunks))
				}
				crafted.Layers = [][]testimage.CraftedFile{inLayer}
			}
			dir := t.TempDir()
			testimage.WriteLayout(t, dir, map[string]any{
				"crafted": testimage.Craft(t, crafted),
				"oci":     testimage.BuildOCI(t, testimage.Spec{Name: "clean", Layers: []testimage.Layer{{testimage.Text("clean", "clean\n")}}}),
			})
			args, _ := scanArguments(t, dir+":crafted")
			r := within(t, soakMemory, soakTime, args...)
			assert.Zero(t, r.code, r.stderr)
			r = within(t, soakMemory, soakTime, "check", "--cache-dir", t.TempDir(), "--format", "json", dir+":oci", dir+":crafted")
			assert.Equal(t, 1, r.code, r.stderr)
			t.Logf("check prints %d bytes", len(r.stdout))
			r = within(t, soakMemory, soakTime, "inspect", "--cache-dir", t.TempDir(), dir+":crafted", "stats")
			assert.Zero(t, r.code, r.stderr)
		})
	}
}
