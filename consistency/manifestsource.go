package consistency

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
)

// annotationsNydus begins the names of the annotations that converters write.
const annotationsNydus = "containerd.io/snapshot/nydus-"

// checkSource compares what the target says of its source with the source that
// was given.
func (c *manifestCheck) checkSource() {
	source, target := c.images.Source, c.images.Target
	if layers, ids := len(source.Manifest.Layers), len(source.Config.RootFS.DiffIDs); layers != ids {
		c.failed("read the OCI image", fmt.Errorf("its config has %d diff IDs for %d layers: %w", ids, layers, nydusimage.ErrInvalid))
	}
	said := target.Manifest.Annotations
	field := fieldName("annotations", nydusimage.AnnotationSourceDigest)
	if digest, ok := said[nydusimage.AnnotationSourceDigest]; !ok {
		c.note(pathManifest, "%s: the Nydus image does not say what it was made from", field)
	} else if !c.isSource(digest) {
		c.differ(pathManifest, field, source.Digest.String(), digest)
	}
	if subject := target.Manifest.Subject; subject != nil {
		c.checkSubject(subject)
	}
	if name, ok := said[nydusimage.AnnotationSourceReference]; ok && source.Reference != nil && name != source.Reference.String() && name != source.Reference.Name() {
		c.note(pathManifest, "%s: it was made from %s, by that name", fieldName("annotations", nydusimage.AnnotationSourceReference), name)
	}
	for _, name := range slices.Sorted(maps.Keys(source.Manifest.Annotations)) {
		want := source.Manifest.Annotations[name]
		got, kept := said[name]
		switch {
		case strings.HasPrefix(name, annotationsNydus), kept && got == want:
		case !kept:
			c.note(pathManifest, "%s: the OCI image has it, the Nydus image has not", fieldName("annotations", name))
		default:
			c.differ(pathManifest, fieldName("annotations", name), strconv.Quote(want), strconv.Quote(got))
		}
	}
}

// isSource says whether a digest is that of the source: of its manifest, or of
// the index that was given, for an index of one image is converted as one image.
// The OCI image of an index that holds its twin, too, is not quite the one that
// was converted: the converter put an empty layer below its layers and wrote down
// its former digest. That its layers and config are the same otherwise is for the
// other rules to say.
func (c *manifestCheck) isSource(digest string) bool {
	source := c.images.Source
	return digest == source.Digest.String() || digest == source.Descriptor.Digest.String() ||
		hasEmptyLayer(source.Manifest) && digest == source.Manifest.Annotations[nydusimage.AnnotationSourceDigest]
}

// hasEmptyLayer says whether a converter has put an empty layer below the
// others.
func hasEmptyLayer(manifest *v1.Manifest) bool {
	return len(manifest.Layers) > 0 && manifest.Layers[0].Annotations[nydusimage.AnnotationEmptyLayer] == "true"
}

func (c *manifestCheck) checkSubject(subject *v1.Descriptor) {
	source := c.images.Source
	switch digest := subject.Digest.String(); {
	case !c.isSource(digest):
		c.differ(pathManifest, "subject.digest", source.Digest.String(), digest)
	case subject.Digest == source.Digest && subject.Size != int64(len(source.RawManifest)):
		c.differ(pathManifest, "subject.size", strconv.Itoa(len(source.RawManifest)), strconv.FormatInt(subject.Size, 10))
	case subject.Digest == source.Digest && source.Manifest.MediaType != "" && subject.MediaType != source.Manifest.MediaType:
		c.differ(pathManifest, "subject.mediaType", string(source.Manifest.MediaType), string(subject.MediaType))
	}
}
