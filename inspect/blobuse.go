package inspect

import (
	"bufio"
	"fmt"
	"text/tabwriter"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/blob"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// BlobUse is how much of a blob the image still refers to. What it does not is
// dead: it is stored for files that other layers replaced or deleted.
type BlobUse struct {
	Index  int    `json:"index"`
	BlobID string `json:"blob_id"`
	// Used are the blob's chunks that files of the image have, each once.
	Used ChunkCounts `json:"used"`
	// Chunks and DataSize are those of the whole blob; 0 where the bootstrap does not
	// say.
	Chunks   uint32 `json:"chunk_count"`
	DataSize uint64 `json:"data_size"` // of all chunks as they are stored
	// DeadChunks and DeadBytes are the differences, nil where they are not known.
	DeadChunks *uint64 `json:"dead_chunks"`
	DeadBytes  *uint64 `json:"dead_bytes"`
}

// newBlobUse describes a blob before its chunks are counted.
func newBlobUse(b rafs.Blob) BlobUse {
	return BlobUse{Index: b.Index, BlobID: b.ID, Chunks: b.ChunkCount, DataSize: dataSize(b)}
}

// dataSize is that of a blob's chunks as they are stored (compressed_data_size in
// storage/src/device.rs of the Nydus project). Behind them lies blob.meta or, in
// v5, a bootstrap, with a tar header between where the blob is made of parts.
func dataSize(b rafs.Blob) uint64 {
	if b.Features&rafs.BlobSeparate != 0 {
		return b.CompressedSize
	}
	size := b.CompressedSize
	if b.Meta.UncompressedSize > 0 {
		size = b.Meta.Offset
	}
	if parts := rafs.BlobHasTarHeader | rafs.BlobCapTarTOC; b.Features&parts == parts {
		size -= min(size, tarHeaderSize)
	}
	return size
}

const tarHeaderSize = 512

// finish says what is dead. Where chunks share what they are stored in, their
// stored sizes are not known.
func (u *BlobUse) finish(b rafs.Blob) {
	dead := func(all, used uint64) *uint64 {
		if all < used || all == 0 {
			return nil
		}
		all -= used
		return &all
	}
	u.DeadChunks = dead(uint64(u.Chunks), uint64(u.Used.Count))
	if !blob.NeedsMeta(b) {
		u.DeadBytes = dead(u.DataSize, u.Used.CompressedSize)
	}
}

// blobsText is the part of the text about blobs.
func (a *Stats) blobsText(w *bufio.Writer) error {
	if len(a.Blobs) == 0 {
		return nil
	}
	fmt.Fprintln(w, "\nuse of blobs, in chunks and in bytes as they are stored:")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "BLOB\tCHUNKS\tDEAD\tBYTES\tDEAD\tID")
	for _, b := range a.Blobs {
		fmt.Fprintf(t, "%d\t%d\t%s\t%d\t%s\t%s\n", b.Index, b.Chunks, share(b.DeadChunks, uint64(b.Chunks)),
			b.DataSize, share(b.DeadBytes, b.DataSize), b.BlobID)
	}
	return t.Flush()
}

// share shows a part of all.
func share(part *uint64, all uint64) string {
	if part == nil {
		return "?"
	}
	return fmt.Sprintf("%d (%.1f %%)", *part, 100*float64(*part)/float64(all))
}
