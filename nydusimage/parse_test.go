package nydusimage

import (
	"bytes"
	"io"
	"runtime"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestDocumentsAreBounded: a document of empty values takes no memory for them.
func TestDocumentsAreBounded(t *testing.T) {
	fill := func(head, one, tail string) []byte {
		return []byte(head + strings.Repeat(one+",", (maxManifest-1000)/(len(one)+1)) + one + tail)
	}
	parsers := map[string]func(raw []byte) error{
		"manifest": func(raw []byte) error { _, err := parse(raw, v1.ParseManifest); return err },
		"index":    func(raw []byte) error { _, err := parse(raw, v1.ParseIndexManifest); return err },
		"config":   func(raw []byte) error { _, _, err := sourceConfig(raw, 0); return err },
	}
	for name, raw := range map[string][]byte{
		"manifest": fill(`{"layers":[`, "{}", "]}"),
		"index":    fill(`{"manifests":[`, "{}", "]}"),
		"config":   fill(`{"history":[`, "{}", "]}"),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := parsers[name](raw)
		mediaType("", raw)
		runtime.ReadMemStats(&after)
		assert.ErrorIs(t, err, ErrInvalid, name)
		assert.ErrorContains(t, err, "values", name)
		assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20), "%s: bytes allocated", name)
	}
}

// TestCountValues: what is in quotes is one value.
func TestCountValues(t *testing.T) {
	for raw, want := range map[string]int{
		`{}`:                       1,
		`[1,2,[3]]`:                4,
		`{"a,b":"[{,\",\\","c":1}`: 2,
		`["unclosed,,,,`:           1,
	} {
		assert.Equal(t, want, countValues([]byte(raw)), raw)
	}
	document, err := parse([]byte(`{"layers":[{"annotations":{"a":"b"}}]}`), v1.ParseManifest)
	require.NoError(t, err)
	assert.Len(t, document.Layers, 1)
	_, err = parse(nil, func(r io.Reader) (*bytes.Buffer, error) { return nil, io.ErrUnexpectedEOF })
	assert.ErrorIs(t, err, ErrInvalid)
}
