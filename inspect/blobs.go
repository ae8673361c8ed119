package inspect

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// A Blob is an entry of the blob table. The first fields are those that
// nydus-image inspect gives. Offsets and sizes are in bytes.
type Blob struct {
	BlobID           string `json:"blob_id"`
	ReadaheadOffset  uint32 `json:"readahead_offset"`
	ReadaheadSize    uint32 `json:"readahead_size"`
	DecompressedSize uint64 `json:"decompressed_size"`
	CompressedSize   uint64 `json:"compressed_size"`

	Index int `json:"index"`
	// Layer is the layer whose data it is, counted from 1; nil where the manifest
	// lists none.
	Layer      *int     `json:"layer"`
	Compressor string   `json:"compressor"`
	Digester   string   `json:"digester"`
	Cipher     string   `json:"cipher"`
	Features   []string `json:"features"`
	ChunkSize  uint32   `json:"chunk_size"`
	ChunkCount uint32   `json:"chunk_count"`
	// Meta is where blob.meta lies, nil where there is none (v5).
	Meta *Meta `json:"meta"`
	// TOCSize and TOCDigest (SHA-256) are those of the table of contents in the
	// blob's tail; converters commonly leave them out.
	TOCSize   uint32 `json:"toc_size,omitempty"`
	TOCDigest string `json:"toc_digest,omitempty"`
	// MetaBlobDigest (SHA-256) and MetaBlobSize are those of the separate blob that
	// holds blob.meta.
	MetaBlobDigest string `json:"meta_blob_digest,omitempty"`
	MetaBlobSize   uint64 `json:"meta_blob_size,omitempty"`
}

// A Meta is where the blob's own table of chunks lies.
type Meta struct {
	Compressor       string `json:"compressor"`
	Offset           uint64 `json:"offset"`
	CompressedSize   uint64 `json:"compressed_size"`
	UncompressedSize uint64 `json:"uncompressed_size"`
}

// blobs gives the blob table, as [Blob] values.
func blobs(_ context.Context, s *Session, _ *Call) (Answer, error) {
	all := blobList{}
	for _, b := range s.tree.Blobs() {
		all = append(all, s.newBlob(b))
	}
	return all, nil
}

func (s *Session) newBlob(b rafs.Blob) Blob {
	blob := Blob{
		BlobID: b.ID, ReadaheadOffset: b.ReadaheadOffset, ReadaheadSize: b.ReadaheadSize,
		DecompressedSize: b.UncompressedSize, CompressedSize: b.CompressedSize,
		Index: b.Index, Compressor: compressorNames[b.Compressor], Digester: digesterNames[b.Digester], Cipher: cipherNames[b.Cipher],
		Features: bitNames(blobFeatures, uint64(b.Features)), ChunkSize: b.ChunkSize, ChunkCount: b.ChunkCount,
		TOCSize: b.TOCSize, MetaBlobSize: b.MetaSize, TOCDigest: digestText(b.TOCDigest), MetaBlobDigest: digestText(b.MetaDigest),
	}
	if layer := s.layerOf(b.ID); layer > 0 {
		blob.Layer = &layer
	}
	if m := b.Meta; m.UncompressedSize > 0 {
		blob.Meta = &Meta{compressorNames[m.Compressor], m.Offset, m.CompressedSize, m.UncompressedSize}
	}
	return blob
}

// digestText is "" for a digest that is not there.
func digestText(digest [32]byte) string {
	if digest == [32]byte{} {
		return ""
	}
	return hex.EncodeToString(digest[:])
}

type blobList []Blob

// Text implements [Answer].
func (all blobList) Text(w *bufio.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "BLOB\tLAYER\tCHUNKS\tCOMPRESSED\tUNCOMPRESSED\tREADAHEAD\tCOMPRESSOR\tCIPHER\tID\tFEATURES")
	for _, b := range all {
		layer := "-"
		if b.Layer != nil {
			layer = strconv.Itoa(*b.Layer)
		}
		fmt.Fprintf(t, "%d\t%s\t%d\t%d\t%d\t%d+%d\t%s\t%s\t%s\t%s\n", b.Index, layer, b.ChunkCount, b.CompressedSize, b.DecompressedSize,
			b.ReadaheadOffset, b.ReadaheadSize, b.Compressor, b.Cipher, b.BlobID, joined(b.Features))
	}
	return t.Flush()
}

// minPrefix is how many digits of a digest stand for all of it.
const minPrefix = 4

// blobIndex finds a blob of the table by its index, its ID or the beginning of
// that.
func (s *Session) blobIndex(c *Call, text string) (int, error) {
	all := s.tree.Blobs()
	if n, err := strconv.Atoi(text); err == nil && n >= 0 && n < len(all) && len(text) < minPrefix {
		return n, nil
	}
	text = strings.TrimPrefix(text, "sha256:")
	found := -1
	for i := range all {
		switch {
		case len(text) < minPrefix || !strings.HasPrefix(all[i].ID, text):
		case found >= 0:
			return 0, c.wrong("blob %q is blob %d and blob %d: give more of its ID", text, found, i)
		default:
			found = i
		}
	}
	if found < 0 {
		return 0, &UsageError{fmt.Errorf("there is no blob %q: the blob table has %d", text, len(all)), hintBlobs}
	}
	return found, nil
}
