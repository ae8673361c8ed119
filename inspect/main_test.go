package inspect_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/inspect"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
)

// An image is a session with what it was converted from, and what it has read.
type image struct {
	*testimage.Nydus
	*inspect.Session
	traffic *nydusimage.Traffic
}

// open converts an image, stores it as an OCI layout and opens that.
func open(t testing.TB, spec testimage.Spec, o testimage.ConvertOptions) *image {
	t.Helper()
	converted := testimage.Convert(t, testimage.BuildOCI(t, spec), o)
	dir := t.TempDir()
	testimage.WriteLayout(t, dir, map[string]any{"nydus": converted})
	i := openLayout(t, dir)
	i.Nydus = converted
	return i
}

// openLayout opens an image in an OCI layout.
func openLayout(t testing.TB, path string) *image {
	t.Helper()
	i := &image{traffic: new(nydusimage.Traffic)}
	source, err := nydusimage.Open(t.Context(), path, nydusimage.Options{Traffic: i.traffic})
	require.NoError(t, err)
	i.Session, err = inspect.Open(t.Context(), source)
	require.NoError(t, err)
	t.Cleanup(func() {
		assert.NoError(t, i.Session.Close())
		assert.NoError(t, source.Close())
	})
	return i
}

// versions are the versions of RAFS.
var versions = []string{"5", "6"}

// fullPath is the path of a node as bytes.
func fullPath(n inspect.Node) string {
	if n.PathBase64 != nil {
		return string(n.PathBase64)
	}
	return n.Path
}

// text10 spells a number.
func text10(n uint64) string { return strconv.FormatUint(n, 10) }

// ask runs a command, given as words, and returns its text and its document.
func ask(ctx context.Context, s *inspect.Session, words ...string) (text, document string, err error) {
	for _, out := range []*string{&text, &document} {
		call, err := inspect.Parse(words)
		if err != nil {
			return "", "", err
		}
		var b bytes.Buffer
		if err := s.Answer(ctx, call, inspect.Output{Out: &b, JSON: out == &document}); err != nil {
			return "", "", err
		}
		*out = b.String()
	}
	return text, document, nil
}

// text runs a command that must succeed and returns its text.
func text(t testing.TB, s *inspect.Session, words ...string) string {
	t.Helper()
	call, err := inspect.Parse(words)
	require.NoError(t, err)
	answer, err := s.Run(t.Context(), call)
	require.NoError(t, err, "%q", words)
	var b bytes.Buffer
	w := bufio.NewWriter(&b)
	require.NoError(t, answer.Text(w), "%q", words)
	require.NoError(t, w.Flush())
	return b.String()
}

// document runs a command that must succeed and decodes its document.
func document[T any](t testing.TB, s *inspect.Session, words ...string) (value T) {
	t.Helper()
	call, err := inspect.Parse(words)
	require.NoError(t, err)
	var b bytes.Buffer
	require.NoError(t, s.Answer(t.Context(), call, inspect.Output{Out: &b, JSON: true}), "%q", words)
	require.Equal(t, 1, bytes.Count(b.Bytes(), []byte("\n")), "one document a line: %s", b.String())
	require.NoError(t, json.Unmarshal(b.Bytes(), &value), "%s", b.String())
	return value
}
