package artifact

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
)

// TestChoicesAreKept: what is chosen of a large slice is kept, is the same from the cache,
// and is chosen anew where anything is different of what decides.
func TestChoicesAreKept(t *testing.T) {
	layer := testimage.Layer{testimage.Text("etc/os-release", "ID=debian\nVERSION_ID=12\n")}
	for n := range filesAtOnce {
		layer = append(layer, testimage.Text(fmt.Sprintf("srv/node_modules/m%d/package.json", n), "{}"), testimage.Text(fmt.Sprintf("srv/image%d.png", n), "x"))
	}
	dir := t.TempDir()
	image := testimage.BuildOCI(t, testimage.Spec{Name: "choices", Layers: []testimage.Layer{layer.WithParents()}})
	testimage.WriteLayout(t, dir, map[string]any{"v6": testimage.Convert(t, image, testimage.ConvertOptions{FSVersion: "6"})})
	opened, err := nydusimage.Open(t.Context(), dir+":v6", nydusimage.Options{Metadata: nydusimage.NewMetadataCache(t.TempDir())})
	require.NoError(t, err)
	defer opened.Close()
	mount, err := nydusmount.Native(t.Context(), opened)
	require.NoError(t, err)
	defer mount.Close()
	a := New(opened, nil, nil, newAnalyzers(t), Options{})
	cut, err := cutSlices(t.Context(), mount, a.option.WalkerOption)
	require.NoError(t, err)
	slice := func() *work { return &work{slice: cut.slices[0]} }

	name := a.choiceName(slice())
	require.NotEmpty(t, name)
	_, known := a.recallChoices(name, len(cut.slices[0].files))
	assert.False(t, known)
	first, again := slice(), slice()
	a.chooseFiles(first)
	choices, known := a.recallChoices(name, len(cut.slices[0].files))
	assert.True(t, known)
	assert.Equal(t, a.choose(slice()), choices)
	a.chooseFiles(again)
	require.Greater(t, len(first.files), filesAtOnce, "each package.json")
	assert.Equal(t, first.files, again.files)

	other := func(alter func(w *work)) string {
		w := slice()
		w.slice.files = append([]file(nil), w.slice.files...)
		alter(w)
		return a.choiceName(w)
	}
	assert.Equal(t, name, other(func(*work) {}))
	for what, alter := range map[string]func(w *work){
		"a name":     func(w *work) { w.slice.files[5].path += "x" },
		"a mode":     func(w *work) { w.slice.files[5].inode.Mode ^= 0o111 },
		"a size":     func(w *work) { w.slice.files[5].inode.Size++ },
		"visibility": func(w *work) { w.slice.files[5].seen = deleted },
		"a file":     func(w *work) { w.slice.files = w.slice.files[1:] },
		"the base":   func(w *work) { w.base = true },
	} {
		assert.NotEqual(t, name, other(alter), what)
	}
	a.option.FilePatterns = []string{"dockerfile:x"}
	assert.NotEqual(t, name, a.choiceName(slice()), "options")

	_, known = a.recallChoices(name, filesAtOnce)
	assert.False(t, known, "of fewer files")
	require.NoError(t, opened.Metadata.Put(kindChoice, name, []byte("no JSON")))
	_, known = a.recallChoices(name, len(cut.slices[0].files))
	assert.False(t, known)
}
