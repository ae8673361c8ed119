package main

import (
	"errors"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/blob"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/inspect"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// An inspectError says why a question about an image could not be answered.
type inspectError struct{ error }

func (e inspectError) Unwrap() error { return e.error }

// hint is what to do about it: that of a scan, but for what is different here.
func (e inspectError) hint() string {
	var wrong usageError
	var question *inspect.UsageError
	var plain *nydusimage.NotNydusError
	switch {
	case errors.As(e.error, &question):
		return question.Hint
	case errors.As(e.error, &wrong):
		return "see trivy nydus inspect --help"
	case errors.As(e.error, &plain):
		return "give a Nydus image"
	case errors.Is(e.error, inspect.ErrNoImage):
		return "with the bootstrap, commands about its tree and its blob table work: help lists them"
	case errors.Is(e.error, inspect.ErrFailed):
		return "the documents with an error say why"
	case errors.Is(e.error, nydusmount.ErrBackend):
		return "commands that need no data work: help lists them"
	case errors.Is(e.error, nydusmount.ErrNoDigests):
		return "commands that need no data work: help lists them"
	case errors.Is(e.error, blob.ErrNoTOC):
		return "the blob was made by another converter: leave --layer out to see what the image shows"
	case errors.Is(e.error, rafs.ErrUnsupported):
		return "this version does not read that; commands that need no data may work"
	}
	return hint(e.error)
}
