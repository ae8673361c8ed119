package blob

import (
	"bytes"
	"mime/multipart"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzParts reads answers to requests for several ranges. What is left of the ranges are the last of
// them, of the first of these perhaps a part; the others are bytes of the answer, and nothing else is written.
func FuzzParts(f *testing.F) {
	const size = 10000
	data := noise(size)
	spans := [][2]int{{100, 200}, {3000, 3100}, {9900, 10000}}
	for _, pieces := range [][][2]int{spans, {{0, size}}, {{0, 5000}, {9000, size}}, {spans[2], spans[0]}, {{100, 150}, {150, 200}}} {
		answer := httptest.NewRecorder()
		parts(data, size, pieces...)(answer, nil)
		_, boundary, _ := bytes.Cut([]byte(answer.Header().Get("Content-Type")), []byte("boundary="))
		f.Add(answer.Body.Bytes(), string(boundary))
	}
	f.Fuzz(func(t *testing.T, answer []byte, boundary string) {
		untouched := bytes.Repeat([]byte{0xa5}, size)
		memory := bytes.Clone(untouched)
		var ranges []byteRange
		for _, s := range spans {
			ranges = append(ranges, byteRange{int64(s[0]), memory[s[0]:s[1]:s[1]]})
		}
		h := &HTTP{size: size}
		left, err := h.fillParts(multipart.NewReader(bytes.NewReader(answer), boundary), ranges)
		require.Equal(t, err == nil, len(left) == 0)
		for i, r := range ranges {
			got := r.data
			if k := i - (len(ranges) - len(left)); k >= 0 {
				missing := len(left[k].data)
				require.Equal(t, r.off+int64(len(r.data)-missing), left[k].off)
				require.True(t, k == 0 || missing == len(r.data), "only the first of what is left may be begun")
				got = r.data[:len(r.data)-missing]
			}
			require.True(t, bytes.Contains(answer, got), "bytes at %d that the answer does not have", r.off)
		}
		for _, r := range ranges {
			copy(r.data, untouched)
		}
		require.Equal(t, untouched, memory, "bytes that nobody asked for")
	})
}
