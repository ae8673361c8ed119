package nydusmount

import (
	"fmt"
	"strings"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// encryptedSuffix ends the media type of a layer that is encrypted itself.
const encryptedSuffix = "+encrypted"

// keyWarnings says where an image with encrypted blobs holds their keys in the
// clear: in each blob table that names these blobs. The bootstrap layer may be
// encrypted, the bootstraps that converters put into the blobs are not.
func keyWarnings(image *nydusimage.Image, merged *rafs.Tree, tails []*Tail) []string {
	var places []string
	if holdsKeys(merged) && !strings.HasSuffix(string(image.BootstrapLayer.MediaType), encryptedSuffix) {
		places = append(places, "in the bootstrap")
	}
	open := 0
	for _, tail := range tails {
		if tail != nil && tail.Tree != nil && holdsKeys(tail.Tree) {
			open++
		}
	}
	if open > 0 {
		places = append(places, fmt.Sprintf("at the end of %d of %d blobs", open, len(tails)))
	}
	if len(places) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("the image's data is encrypted, but the key lies beside it, %s: whoever can pull the image can read it",
		strings.Join(places, " and "))}
}

// holdsKeys says whether a bootstrap's blob table has the key of a blob.
func holdsKeys(tree *rafs.Tree) bool {
	for _, b := range tree.Blobs() {
		if b.Cipher != rafs.CipherNone {
			return true
		}
	}
	return false
}
