package testimage_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
)

// TestWithParents: parents come before what is in them, each once, with the layer's own attributes where it has them.
func TestWithParents(t *testing.T) {
	layer := testimage.Layer{
		testimage.Dir("late/below"), testimage.Text("none/below/file", ""), testimage.Dir("late").WithMode(0o700),
		testimage.Dir("early"), testimage.Text("early/file", ""),
	}
	var got []string
	for _, f := range layer.WithParents() {
		got = append(got, fmt.Sprintf("%s %o", f.Path, f.Mode))
	}
	assert.Equal(t, []string{"late 700", "late/below 755", "none 755", "none/below 755", "none/below/file 644", "early 755",
		"early/file 644"}, got)
}
