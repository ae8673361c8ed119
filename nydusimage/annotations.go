package nydusimage

// The annotations and media types of Nydus manifests, as nydusify,
// nydus-snapshotter and acceleration-service write them.
const (
	// MediaTypeBlob is that of data layers, MediaTypeConfig that of configs which
	// containerd is not to understand, in an index that has the OCI image, too.
	MediaTypeBlob   = "application/vnd.oci.image.layer.nydus.blob.v1"
	MediaTypeConfig = "application/vnd.nydus.image.config.v1+json"

	// Of layers: "true" marks the bootstrap, a blob, and an OCI image's empty
	// layer, which a converter puts below the others.
	AnnotationBootstrap  = "containerd.io/snapshot/nydus-bootstrap"
	AnnotationBlob       = "containerd.io/snapshot/nydus-blob"
	AnnotationEmptyLayer = "containerd.io/snapshot/nydus-empty-layer"
	// Of a blob that only indexes the data in an OCI layer (zran): that layer's
	// digest.
	AnnotationRef = "containerd.io/snapshot/nydus-ref"
	// Of manifests and bootstrap layers: the version of RAFS, "5" or "6".
	AnnotationFSVersion = "containerd.io/snapshot/nydus-fs-version"

	// Of bootstrap layers: the blob that nydusify optimize added, and the list of
	// those that nydusify commit did.
	AnnotationPrefetchBlob = "containerd.io/snapshot/nydus-separated-blob-with-prefetch-files"
	AnnotationCommitBlobs  = "containerd.io/snapshot/nydus-commit-blobs"
	// Of manifests: the version of nydus-image that built the image.
	AnnotationBuilder = "containerd.io/snapshot/nydus-builder-version"

	// Of manifests: what the image says that it was made from.
	AnnotationSourceDigest    = "containerd.io/snapshot/nydus-source-digest"
	AnnotationSourceReference = "containerd.io/snapshot/nydus-source-reference"
)

// How converters sign the history entries that they add: that of the bootstrap
// layer at the end, or that of the empty layer at the beginning.
const (
	ConverterCreatedBy    = "Nydus Converter"
	ConverterComment      = "Nydus Bootstrap Layer"
	ConverterEmptyComment = "Nydus Empty Layer"
)
