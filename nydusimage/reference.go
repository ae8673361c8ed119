package nydusimage

import (
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
)

// IsPath says whether what the user gave names a folder or file on this machine
// rather than an image in a registry: it begins with "." or is absolute.
func IsPath(target string) bool {
	return strings.HasPrefix(target, ".") || filepath.IsAbs(target)
}

// parseReference reads a reference as Trivy does: a missing registry is Docker
// Hub, a missing tag "latest".
func parseReference(reference string, o *Options) (name.Reference, error) {
	options := []name.Option{name.WeakValidation}
	if o.PlainHTTP {
		options = append(options, name.Insecure)
	}
	return name.ParseReference(reference, options...)
}

// splitPath cuts "dir:tag" and "dir@digest" into the path and what selects an
// image in it. A drive letter's colon is part of the path.
func splitPath(target string) (path, selector string) {
	volume := filepath.VolumeName(target)
	rest := target[len(volume):]
	if at := strings.LastIndex(rest, "@"); at > strings.LastIndexAny(rest, `/\`) {
		return volume + rest[:at], rest[at:]
	}
	if colon := strings.LastIndex(rest, ":"); colon > strings.LastIndexAny(rest, `/\`) {
		return volume + rest[:colon], rest[colon:]
	}
	return target, ""
}
