package inspect

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestWholeFile: until a file is whole nothing is there that a killed process would leave, and
// what had its name stays.
func TestWholeFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "x.tar")
	names := func() (names []string) {
		entries, err := os.ReadDir(filepath.Dir(name))
		require.NoError(t, err)
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
	var before []string
	for _, content := range []string{"first", "second"} {
		for _, published := range []bool{false, true} {
			f, err := createWhole(name)
			require.NoError(t, err)
			_, err = f.WriteString(content)
			require.NoError(t, err)
			assert.Equal(t, before, names(), "while it is written")
			if published {
				require.NoError(t, f.publish())
				before = []string{"x.tar"}
				got, err := os.ReadFile(name)
				require.NoError(t, err)
				assert.Equal(t, content, string(got))
			} else {
				f.discard()
			}
			assert.Equal(t, before, names())
		}
	}
	require.NoError(t, os.WriteFile(name+".partial", []byte("of a killed process"), 0o600))
	f, err := createWhole(name)
	require.NoError(t, err)
	require.NoError(t, f.publish())
	assert.Equal(t, before, names(), "it is taken over")
}
