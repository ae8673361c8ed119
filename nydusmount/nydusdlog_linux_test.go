package nydusmount

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestLongLog: a registry's answers are in the log, as long as they are. A secret that
// the part which is read begins in the middle of is not shown.
func TestLongLog(t *testing.T) {
	run := &runFolder{path: t.TempDir()}
	secret := strings.Repeat("s", 1000)
	log := strings.Repeat("x", 1<<20) + secret + strings.Repeat("y", logRead-900) + "\nthe end\n"
	require.NoError(t, run.write(logFile, []byte(log)))
	assert.Equal(t, "the end", readLog(run.path, []string{secret}))

	require.NoError(t, os.Truncate(run.file(logFile), maxLog+1))
	assert.ErrorContains(t, run.overflow(t.Context(), 1<<20), "its log has over")
}
