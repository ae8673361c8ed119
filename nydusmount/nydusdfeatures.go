package nydusmount

import (
	"strings"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// sinceRelease22 are the features that nydusd 2.2.0 does not know
// (BLOB_FEATURE_INCOMPAT_VALUE in storage/src/device.rs): it ends at the start.
var sinceRelease22 = []struct {
	feature rafs.BlobFeatures
	name    string
}{
	{rafs.BlobTarfs, "tarfs data"},
	{rafs.BlobBatch, "batch chunks"},
	{rafs.BlobEncrypted, "encrypted data"},
	{rafs.BlobChunkDict, "a generated chunk dictionary"},
	{rafs.BlobPrefetchSeparated, "files set apart for prefetch"},
	{rafs.BlobExternal, "data in an external backend"},
}

// newer names what of an image nydusd 2.2.0 does not know; "" if there is nothing.
func newer(b *nydusimage.Bootstrap) string {
	var all rafs.BlobFeatures
	for _, blob := range b.Tree.Blobs() {
		all |= blob.Features
	}
	var names []string
	for _, f := range sinceRelease22 {
		if all&f.feature != 0 {
			names = append(names, f.name)
		}
	}
	return strings.Join(names, ", ")
}
