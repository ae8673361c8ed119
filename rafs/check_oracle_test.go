package rafs_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
)

const (
	// mutations is how many damaged copies of each bootstrap are compared.
	mutations = 250
	// patience is how long nydus-image may take: damage can make it loop. That is
	// no verdict, since a slow machine looks the same.
	patience = 3 * time.Second
)

// newer is what nydus-image 2.2.0 refuses and later releases read: they define
// more features of blobs and more flags, and of a v5 image drop those that they do
// not know. Those that no release defines, Open or Check refuse.
var newer = []string{"invalid blob features", "invalid blob feature flags", "invalid super flags", "invalid RAFS flags"}

// TestCheckFindsWhatNydusImageFinds damages bootstraps at random and gives them
// to nydus-image as well: what it refuses, Check or Open reports.
func TestCheckFindsWhatNydusImageFinds(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	tool := testimage.Tools(t).NydusImage
	for seed, sample := range []string{
		"tree-v5/bootstrap", "nmaster-merge-v6/bootstrap", "n220-zran-multimember/bootstrap", "layers/layer1", "layers/layer4",
	} {
		t.Run(sample, func(t *testing.T) {
			original := load(t, sample)
			require.Empty(t, nydusImageRefuses(t, tool, original), "the sample itself")
			random := rand.New(rand.NewPCG(uint64(seed), 6))
			ours, theirs := 0, 0
			for n := range mutations {
				damaged, how := damage(random, original)
				problems := problemsOf(damaged)
				refusal := nydusImageRefuses(t, tool, damaged)
				if len(problems) > 0 {
					ours++
				}
				if refusal == "" {
					continue
				}
				theirs++
				later := slices.ContainsFunc(newer, func(says string) bool { return strings.Contains(refusal, says) })
				if len(problems) == 0 && !later {
					t.Errorf("mutation %d (%s): Check reports nothing, nydus-image says %s", n, how, refusal)
				}
			}
			t.Logf("of %d damaged bootstraps nydus-image refuses %d, Check %d", mutations, theirs, ours)
			require.NotZero(t, theirs, "the mutations hit nothing that nydus-image looks at")
			require.GreaterOrEqual(t, ours, theirs)
		})
	}
}

// damage changes one to eight bytes beside bytes that are not zero: a bootstrap
// is mostly padding.
func damage(random *rand.Rand, original []byte) (damaged []byte, how string) {
	damaged = append([]byte{}, original...)
	for {
		at := random.IntN(len(damaged) - 8)
		if original[at] == 0 && original[at+4] == 0 {
			continue
		}
		switch random.IntN(4) {
		case 0:
			bit := random.IntN(8)
			damaged[at] ^= 1 << bit
			return damaged, fmt.Sprintf("bit %d of byte %d", bit, at)
		case 1:
			damaged[at] ^= byte(1 + random.IntN(255))
			return damaged, fmt.Sprintf("byte %d", at)
		case 2:
			le.PutUint32(damaged[at:], random.Uint32())
			return damaged, fmt.Sprintf("4 bytes at %d", at)
		default:
			le.PutUint64(damaged[at&^7:], random.Uint64())
			return damaged, fmt.Sprintf("8 bytes at %d", at&^7)
		}
	}
}

// nydusImageRefuses returns what nydus-image says against a bootstrap, "" if it
// accepts it or does not end. A crash counts.
func nydusImageRefuses(t *testing.T, tool string, b []byte) string {
	t.Helper()
	dir := t.TempDir()
	name := filepath.Join(dir, strings.Repeat("ab", 32))
	require.NoError(t, os.WriteFile(name, b, 0o600))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, tool, "check", "--log-level", "error", "--bootstrap", name)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err == nil || ctx.Err() != nil {
		return ""
	}
	return fmt.Sprintf("%v: %s", err, out)
}
