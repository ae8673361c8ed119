package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/docker/go-units"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/artifact"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/inspect"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
)

// evidenceSchema is the version of the document below; docs/evidence.md
// describes it.
const evidenceSchema = 1

// An evidence document says what a scan read and what it was verified against.
type evidence struct {
	SchemaVersion int               `json:"schemaVersion"`
	Plugin        string            `json:"plugin"`
	Trivy         string            `json:"trivy"`
	Image         imageEvidence     `json:"image"`
	Scan          artifact.Evidence `json:"scan"`
	Traffic       trafficEvidence   `json:"traffic"`
	Seconds       float64           `json:"seconds"`
}

type imageEvidence struct {
	Reference string `json:"reference"`
	// Resolved is what the reference named: an index, or the manifest.
	Resolved string `json:"resolved"`
	Manifest string `json:"manifest"`
	// TwinOf is the OCI image that was asked for (--twin). That this image is its
	// twin is a claim of whoever pushed it.
	TwinOf    string `json:"unprovenTwinOf,omitempty"`
	Bootstrap string `json:"bootstrap"`
	Size      int64  `json:"sizeBytes"`
	// ClaimedSource is what the image's annotations say it was made from. It is
	// a claim: nothing in the scan depends on it.
	ClaimedSource map[string]string `json:"claimedSource,omitempty"`
}

type trafficEvidence struct {
	Requests int64 `json:"requests"`
	Bytes    int64 `json:"bytes"`
	// Floor is the least that had to be read: metadata, and the distinct chunks
	// that analyzers read.
	Floor int64 `json:"floorBytes"`
	// WaitingSeconds is the time in which at least one request was under way.
	WaitingSeconds float64 `json:"waitingSeconds"`
}

// The annotations in which converters name the source image.
var sourceAnnotations = []string{
	nydusimage.AnnotationSourceDigest,
	nydusimage.AnnotationSourceReference,
}

func (s *service) evidence() evidence {
	e := evidence{
		SchemaVersion: evidenceSchema,
		Plugin:        version,
		Trivy:         trivyVersion(),
		Image: imageEvidence{
			Reference: s.options.Target,
			Resolved:  s.image.Descriptor.Digest.String(),
			Manifest:  s.image.Digest.String(),
			Bootstrap: s.image.BootstrapLayer.Digest.String(),
			Size:      size(s.image) + s.artifact.Evidence().Referred,
		},
		Scan: s.artifact.Evidence(),
		Traffic: trafficEvidence{
			Requests:       s.traffic.Requests(),
			Bytes:          s.traffic.Bytes(),
			Floor:          s.traffic.Metadata() + s.artifact.Evidence().DataBytes,
			WaitingSeconds: s.traffic.Waiting().Seconds(),
		},
		Seconds: time.Since(s.started).Seconds(),
	}
	if s.image.TwinOf != (v1.Hash{}) {
		e.Image.TwinOf = s.image.TwinOf.String()
	}
	for _, key := range sourceAnnotations {
		if value, ok := s.image.Manifest.Annotations[key]; ok {
			if e.Image.ClaimedSource == nil {
				e.Image.ClaimedSource = make(map[string]string)
			}
			e.Image.ClaimedSource[key] = value
		}
	}
	return e
}

func writeEvidence(path string, e evidence) error {
	data, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return fmt.Errorf("write the evidence: %w", err)
	}
	if err := os.WriteFile(path, append(inspect.EscapeJSON(data), '\n'), 0o644); err != nil {
		return fmt.Errorf("write the evidence: %w", err)
	}
	return nil
}

// writeEvidenceLine writes the document of one of several images.
func writeEvidenceLine(w io.Writer, e evidence) error {
	data, err := json.Marshal(e)
	if err == nil {
		_, err = w.Write(append(inspect.EscapeJSON(data), '\n'))
	}
	if err != nil {
		return fmt.Errorf("write the evidence: %w", err)
	}
	return nil
}

func bytesString(n int64) string { return units.HumanSizeWithPrecision(float64(n), 3) }

func percent(part, whole int64) string {
	if whole == 0 {
		return "0 %"
	}
	return fmt.Sprintf("%.1f %%", 100*float64(part)/float64(whole))
}
