package consistency

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
)

// The paths under which the manifest rule reports.
const (
	pathManifest = "manifest"
	pathConfig   = "config"
)

// A manifestCheck collects what the manifest rule finds.
type manifestCheck struct {
	images Images
	result Result
	errs   []error
}

// checkManifest is [RuleManifest]: the target's manifest and config against
// their specifications, against the bootstrap's blob table and against what the
// registry has, and where there is a source, against its own. It reads nothing
// of the OCI image's layers, and of data blobs the first byte and, where the
// blob table has its digest, the table of contents.
func checkManifest(ctx context.Context, images Images, _ Options, _ *Counts) Result {
	c := &manifestCheck{images: images}
	c.checkDocument()
	c.checkLayers()
	c.checkPresence(ctx)
	if bootstrap, err := images.bootstrap(ctx); err != nil {
		c.unreadable("bootstrap", err)
	} else {
		c.checkVersion(bootstrap)
		c.checkDiffIDs(bootstrap)
		c.checkBlobTable(ctx, bootstrap)
	}
	if images.Source != nil {
		c.checkSource()
		c.checkConfig()
	}
	c.result.Err = errors.Join(c.errs...)
	return c.result
}

func (c *manifestCheck) differ(path, field, want, got string) {
	c.result.Differences = append(c.result.Differences, Difference{Path: path, Field: field, Want: want, Got: got})
}

func (c *manifestCheck) note(path, format string, args ...any) {
	c.result.Notes = append(c.result.Notes, Note{path, fmt.Sprintf(format, args...)})
}

// failed notes what kept a part of the rule from being completed.
func (c *manifestCheck) failed(doing string, err error) {
	c.errs = append(c.errs, fmt.Errorf("%s: %w", doing, err))
}

// unreadable takes an error for a difference where it is the image's fault.
func (c *manifestCheck) unreadable(field string, err error) {
	if c.images.isFault(err) {
		c.differ(pathManifest, field, "readable", err.Error())
		return
	}
	c.failed("compare the manifest with the "+field, err)
}

// The media types of Nydus configs and bootstrap layers.
var (
	configTypes = []types.MediaType{types.OCIConfigJSON, types.DockerConfigJSON, nydusimage.MediaTypeConfig}

	bootstrapTypes = []types.MediaType{
		types.OCILayer, types.OCILayerZStd, types.OCIUncompressedLayer, types.DockerLayer, types.DockerUncompressedLayer,
		types.OCILayer + "+encrypted", types.OCILayerZStd + "+encrypted", types.OCIUncompressedLayer + "+encrypted",
	}
)

// checkDocument checks what the manifest says of itself.
func (c *manifestCheck) checkDocument() {
	manifest := c.images.Target.Manifest
	document, err := decodeObject(c.images.Target.RawManifest)
	if err != nil {
		c.differ(pathManifest, "JSON", "an object that names each field once", err.Error())
		return
	}
	if manifest.SchemaVersion != 2 {
		c.differ(pathManifest, "schemaVersion", "2", strconv.FormatInt(manifest.SchemaVersion, 10))
	}
	if manifest.MediaType != "" && !manifest.MediaType.IsImage() {
		c.differ(pathManifest, "mediaType", string(types.OCIManifestSchema1), string(manifest.MediaType))
	}
	// A document that is manifest and index at once is read as either.
	if _, both := document["manifests"]; both {
		c.differ(pathManifest, "manifests", noValue, "a list, as in an index")
	}
	if !slices.Contains(configTypes, manifest.Config.MediaType) {
		c.differ(pathManifest, "config.mediaType", string(types.OCIConfigJSON), string(manifest.Config.MediaType))
	}
}

// checkLayers checks the media types and marks of the layers. That the bootstrap
// layer comes last was a condition of opening the image.
func (c *manifestCheck) checkLayers() {
	mark := func(field string, d v1.Descriptor, annotation string) {
		if value := d.Annotations[annotation]; value != "true" {
			c.differ(pathManifest, fieldName(field+".annotations", annotation), "true", cmp.Or(value, noValue))
		}
	}
	for i := range c.images.Target.Layers {
		d, field := c.images.Target.Layers[i].Descriptor, fmt.Sprintf("layers[%d]", i)
		if d.MediaType != nydusimage.MediaTypeBlob {
			c.differ(pathManifest, field+".mediaType", nydusimage.MediaTypeBlob, string(d.MediaType))
		}
		mark(field, d, nydusimage.AnnotationBlob)
	}
	d, field := c.images.Target.BootstrapLayer, fmt.Sprintf("layers[%d]", len(c.images.Target.Layers))
	if !slices.Contains(bootstrapTypes, d.MediaType) {
		c.differ(pathManifest, field+".mediaType", string(types.OCILayer), string(d.MediaType))
	}
	mark(field, d, nydusimage.AnnotationBootstrap)
}

// checkVersion compares the version of RAFS with what is said of it; old
// converters say nothing.
func (c *manifestCheck) checkVersion(b *nydusimage.Bootstrap) {
	version := strconv.Itoa(int(b.Tree.Superblock().Version))
	compare := func(field string, annotations map[string]string) {
		if said, ok := annotations[nydusimage.AnnotationFSVersion]; ok && said != version {
			c.differ(pathManifest, fieldName(field, nydusimage.AnnotationFSVersion), version, said)
		}
	}
	target := c.images.Target
	compare("annotations", target.Manifest.Annotations)
	compare(fmt.Sprintf("layers[%d].annotations", len(target.Layers)), target.BootstrapLayer.Annotations)
}

// checkDiffIDs compares the config's diff IDs with the layers. That of a data
// blob is its own digest, as it is stored.
func (c *manifestCheck) checkDiffIDs(b *nydusimage.Bootstrap) {
	target := c.images.Target
	config, err := v1.ParseConfigFile(bytes.NewReader(target.RawConfig))
	if err != nil {
		c.failed("read the config", err) // it was read when the image was opened
		return
	}
	var want []string
	for i := range target.Layers {
		want = append(want, target.Layers[i].Digest.String())
	}
	want = append(want, b.DiffID.String())
	for i := range max(len(want), len(config.RootFS.DiffIDs)) {
		w, g := noValue, noValue
		if i < len(want) {
			w = want[i]
		}
		if i < len(config.RootFS.DiffIDs) {
			g = config.RootFS.DiffIDs[i].String()
		}
		if w != g {
			c.differ(pathConfig, fmt.Sprintf("rootfs.diff_ids[%d]", i), w, g)
		}
	}
	if config.RootFS.Type != "layers" {
		c.differ(pathConfig, "rootfs.type", "layers", config.RootFS.Type)
	}
}
