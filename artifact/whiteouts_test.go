package artifact

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestWhiteouts(t *testing.T) {
	w := newWhiteouts()
	// From the top layer down, as cut adds them.
	w.add(3, "usr/bin/.wh.twice")
	w.add(2, "srv/app/.wh..wh..opq")
	w.add(1, "usr/bin/.wh.twice")
	w.add(1, "opt/.wh.dir")
	w.add(1, "usr/bin/plain")
	w.add(0, "etc/.wh.lowest")
	for name, layer := range map[string]int{
		"usr/bin/twice":     1, // the lowest one above counts
		"srv/app/file":      2,
		"srv/app/deep/file": 2,
		"opt/dir":           1,
		"opt/dir/deep/file": 1,
	} {
		got, ok := w.layer(name)
		assert.True(t, ok, name)
		assert.Equal(t, layer, got, name)
	}
	// An opaque directory itself stays, and so does what only begins alike.
	for _, name := range []string{"srv/app", "srv/application", "opt/directory", "opt", "usr/bin/plain", "etc/lowest"} {
		_, ok := w.layer(name)
		assert.False(t, ok, name)
	}
	root := newWhiteouts()
	root.add(1, ".wh..wh..opq")
	_, ok := root.layer("usr/bin/sh")
	assert.True(t, ok, "an opaque root hides all")
}
