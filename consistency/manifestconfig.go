package consistency

import (
	"slices"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
)

// buildTraces are fields in which docker's classic builder notes how it built an
// image; containers take nothing from them. Converters know the fields of the OCI
// specification only and leave these out.
var buildTraces = []string{
	"container", "container_config", "docker_version", "id", "parent", "parent_id", "throwaway",
	`["moby.buildkit.buildinfo.v1"]`, `["moby.buildkit.cache.v0"]`,
	"config.Image", "config.Hostname", "config.Domainname",
}

// checkConfig compares the configs, field by field, but for what a conversion
// changes: rootfs, which checkDiffIDs compares with the layers, the converter's
// own history entries, and ArgsEscaped, which is of Windows and which converters
// drop when it is false.
func (c *manifestCheck) checkConfig() {
	want, err := decodeObject(c.images.Source.RawConfig)
	if err != nil {
		c.failed("read the OCI image's config", err)
		return
	}
	got, err := decodeObject(c.images.Target.RawConfig)
	if err != nil {
		c.differ(pathConfig, "JSON", "an object that names each field once", err.Error())
		return
	}
	for _, config := range []map[string]any{want, got} {
		delete(config, "rootfs")
		if container, ok := config["config"].(map[string]any); ok {
			delete(container, "ArgsEscaped")
		}
	}
	if history, ok := want["history"].([]any); ok && hasEmptyLayer(c.images.Source.Manifest) && len(history) > 0 && isEmptyLayerEntry(history[0]) {
		want["history"] = history[1:]
	}
	if history, ok := got["history"].([]any); ok && len(history) > 0 && isBootstrapEntry(history[len(history)-1]) {
		got["history"] = history[:len(history)-1]
	}
	compareObjects(want, got, func(field string, want, got any) {
		if _, lost := got.(absent); lost && slices.Contains(buildTraces, field) {
			c.note(pathConfig, "%s: a trace of the build, which converters leave out", field)
			return
		}
		c.differ(pathConfig, field, spellJSON(want), spellJSON(got))
	})
}

// isEmptyLayerEntry says whether a history entry is that of the empty layer that
// a converter puts below the others.
func isEmptyLayerEntry(entry any) bool {
	fields, ok := entry.(map[string]any)
	return ok && fields["created_by"] == nydusimage.ConverterCreatedBy && fields["comment"] == nydusimage.ConverterEmptyComment
}

// isBootstrapEntry says whether a history entry is that of the bootstrap layer,
// as any converter signs it.
func isBootstrapEntry(entry any) bool {
	fields, ok := entry.(map[string]any)
	return ok && fields["empty_layer"] != true &&
		(fields["created_by"] == nydusimage.ConverterCreatedBy || fields["comment"] == nydusimage.ConverterComment)
}
