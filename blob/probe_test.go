package blob

import (
	"errors"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestProbe(t *testing.T) {
	data := noise(1000)
	for _, c := range []struct {
		name  string
		fault http.HandlerFunc // nil for none
		is    error
	}{
		{"there", nil, nil},
		{"without ranges", whole(1000, data), nil},
		{"behind an address", location("/elsewhere"), nil},
		{"missing", status(404), ErrMissing},
		{"longer", partial("bytes 0-0/2000", 1, data[:1], nil), ErrSize},
		{"without ranges, shorter", whole(999, data[:999]), ErrSize},
		{"no right", status(403), ErrIncomplete},
		{"other bytes", partial("bytes 1-1/1000", 1, data[:1], nil), ErrIncomplete},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := serve(t, data, c.fault)
			err := Probe(t.Context(), s.source(t, len(data), nil))
			assert.Equal(t, "0-0", s.asked()[0])
			if c.is == nil {
				require.NoError(t, err)
				return
			}
			assert.ErrorIs(t, err, c.is)
			assert.ErrorIs(t, err, ErrIncomplete)
			// What may pass is no answer.
			assert.Equal(t, c.is == ErrMissing, errors.Is(err, ErrMissing))
			assert.Equal(t, c.is == ErrSize, errors.Is(err, ErrSize))
		})
	}
}

// TestProbeDownloadsNothing: a registry without ranges answers with the whole
// blob, of which the probe takes no more than what has come already.
func TestProbeDownloadsNothing(t *testing.T) {
	s := serve(t, nil, endless)
	require.NoError(t, Probe(t.Context(), s.source(t, 1<<40, nil)))
}
