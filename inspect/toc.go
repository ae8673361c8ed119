package inspect

import (
	"bufio"
	"context"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/blob"
)

// A Part is an entry of a blob's table of contents. Offsets and sizes are in
// bytes, in the blob, as the table gives them.
type Part struct {
	Name       string `json:"name"`
	NameBase64 []byte `json:"name_base64,omitempty"`
	Offset     int64  `json:"offset"`
	StoredSize int64  `json:"stored_size"`
	Size       int64  `json:"size"` // decompressed
	Compressor string `json:"compressor"`
	Digest     string `json:"digest,omitempty"` // SHA-256, of the decompressed bytes
}

// toc gives the table of contents of a blob, as [Part] values.
func toc(ctx context.Context, s *Session, c *Call) (Answer, error) {
	if s.image == nil {
		return nil, ErrNoImage
	}
	layer, err := s.layerArg(c, c.arg(0, ""))
	if err != nil {
		return nil, err
	}
	tail, err := s.tail(ctx, layer)
	if err != nil {
		return nil, err
	}
	if tail.TOC == nil {
		return nil, fmt.Errorf("blob %s: it has no table of contents: %w", s.image.Layers[layer-1].Digest, blob.ErrNoTOC)
	}
	all := partList{}
	for _, p := range tail.TOC.Parts {
		all = append(all, Part{
			Name: p.Name, NameBase64: bytesOf(p.Name), Offset: p.Offset, StoredSize: p.StoredSize, Size: p.Size,
			Compressor: compressorNames[p.Compressor], Digest: digestText(p.Digest),
		})
	}
	return all, nil
}

// layerArg finds the layer whose blob is given as [Session.blobIndex] has it.
// Blobs that no file uses are not in the blob table: they go by their digest.
func (s *Session) layerArg(c *Call, text string) (int, error) {
	id := strings.TrimPrefix(text, "sha256:")
	for i := range s.image.Layers {
		if l := &s.image.Layers[i]; len(id) >= minPrefix && (l.Digest.Hex == id || l.BlobID() == id) {
			return i + 1, nil
		}
	}
	index, err := s.blobIndex(c, text)
	if err != nil {
		return 0, err
	}
	if layer := s.layerOf(s.tree.Blobs()[index].ID); layer > 0 {
		return layer, nil
	}
	return 0, &UsageError{fmt.Errorf("blob %s is no layer of the manifest", s.tree.Blobs()[index].ID), hintLayers}
}

type partList []Part

// Text implements [Answer].
func (all partList) Text(w *bufio.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tOFFSET\tSTORED\tSIZE\tCOMPRESSOR\tSHA256")
	for _, p := range all {
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%s\t%s\n", Escape(p.Name), p.Offset, p.StoredSize, p.Size, p.Compressor, p.Digest)
	}
	return t.Flush()
}
