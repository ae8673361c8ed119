package blob

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkLoad fetches, decompresses and verifies zstd chunks of 900 bytes and of 90
// KB that lie side by side, into an empty reader each time.
func BenchmarkLoad(b *testing.B) {
	for name, contents := range map[string][][]byte{"small": texts(2000), "large": large(200)} {
		b.Run(name, func(b *testing.B) {
			source, chunks := pack(b, 0, contents...)
			var size int64
			for _, c := range contents {
				size += int64(len(c))
			}
			b.SetBytes(size)
			for b.Loop() {
				release, err := view(b, source).Load(b.Context(), chunks)
				require.NoError(b, err)
				release()
			}
			b.ReportMetric(b.Elapsed().Seconds()/float64(b.N)/float64(size)*1e9, "s/GB")
		})
	}
}

// large makes n texts of some 90 KB.
func large(n int) [][]byte {
	var all [][]byte
	for _, part := range texts(n) {
		var text []byte
		for range 100 {
			text = append(text, part...)
		}
		all = append(all, text)
	}
	return all
}
