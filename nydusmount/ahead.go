package nydusmount

import (
	"context"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/blob"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// loadAhead loads wanted chunks of the merged tree into the reader. It leaves out
// those of a blob whose tail is kept, since what was found in that blob is likely
// to be known, and those that the bootstrap alone does not locate. What fails is
// read again when somebody asks for it, and fails then.
func loadAhead(ctx context.Context, image *nydusimage.Image, reader *blob.Reader, tree *rafs.Tree, wanted func(*rafs.Tree) []rafs.Chunk) {
	if tree.LacksChunkTable() {
		return
	}
	blobs := tree.Blobs()
	unseen := make([]bool, len(blobs))
	for i := range image.Layers {
		layer := &image.Layers[i]
		for n := range blobs {
			if b := &blobs[n]; b.ID == layer.BlobID() && !blob.NeedsMeta(*b) {
				unseen[n] = !image.Metadata.Has(kindTail, tailName(image, layer, dataEnd(b, layer.Source.Size())))
			}
		}
	}
	var chunks []rafs.Chunk
	for _, c := range wanted(tree) {
		if c.Blob >= 0 && c.Blob < len(unseen) && unseen[c.Blob] {
			chunks = append(chunks, c)
		}
	}
	release, _ := reader.Tree(ctx, blobs, "").Load(ctx, chunks)
	release()
}
