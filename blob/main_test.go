package blob

import (
	"os"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	firstWait = time.Millisecond
	os.Exit(m.Run())
}

// set changes a variable until the test ends.
func set[T any](t *testing.T, variable *T, value T) {
	t.Helper()
	old := *variable
	*variable = value
	t.Cleanup(func() { *variable = old })
}
