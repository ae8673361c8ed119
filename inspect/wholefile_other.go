//go:build !linux

package inspect

// createWhole creates a file under a name of its own.
func createWhole(name string) (*wholeFile, error) { return createPartial(name) }
