package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/consistency"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/inspect"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
)

// checkSchema is the version of the document below; docs/check.md describes it.
const checkSchema = 1

// A checkDocument is the report of a check as JSON.
type checkDocument struct {
	SchemaVersion int    `json:"schemaVersion"`
	Plugin        string `json:"plugin"`
	// Verdict is the worst of the pairs'.
	Verdict consistency.Verdict `json:"verdict"`
	Pairs   []*checkedPair      `json:"pairs"`
	Seconds float64             `json:"seconds"`
}

// A checkedPair is what was found of one pair of images.
type checkedPair struct {
	// Platform is "" where only one pair was compared.
	Platform string              `json:"platform,omitempty"`
	Verdict  consistency.Verdict `json:"verdict"`
	// Summary is the verdict in a line, with the depth.
	Summary string            `json:"summary"`
	Error   string            `json:"error,omitempty"`
	Data    consistency.Depth `json:"data"`
	Mount   string            `json:"mount"`
	// Source is nil where a Nydus image was checked alone, and either is where it
	// could not be opened.
	Source *checkedImage `json:"source,omitempty"`
	Target *checkedImage `json:"target,omitempty"`
	Rules  []checkedRule `json:"rules"`
	// Differences and Paths count what was found, Ignored what --ignore left out.
	Differences int           `json:"differences"`
	Paths       int           `json:"paths"`
	Ignored     int           `json:"ignored"`
	Compared    checkedCounts `json:"compared"`
	Seconds     float64       `json:"seconds"`

	// report is what was found, and err why the pair could not be compared, with its
	// causes.
	report *consistency.Report
	err    error
}

// A checkedImage is one of the images of a pair.
type checkedImage struct {
	Reference string `json:"reference"`
	Resolved  string `json:"resolved"` // what the reference named: an index, or the manifest
	Manifest  string `json:"manifest"`
	SizeBytes int64  `json:"sizeBytes"`
	traffic
}

// A traffic is what was asked of a registry, also by nydusd, or read of an OCI
// layout, which is no request.
type traffic struct {
	Requests     int64 `json:"requests"`
	FetchedBytes int64 `json:"fetchedBytes"`
}

func (t traffic) minus(other traffic) traffic {
	return traffic{t.Requests - other.Requests, t.FetchedBytes - other.FetchedBytes}
}

// A checkedRule is what one rule found.
type checkedRule struct {
	Rule        consistency.Rule    `json:"rule"`
	Verdict     consistency.Verdict `json:"verdict"`
	Skipped     string              `json:"skipped,omitempty"`
	Error       string              `json:"error,omitempty"`
	Differences int                 `json:"differences"`
	Ignored     int                 `json:"ignored"`
	// Paths are those with differences, sorted, as many as --limit lets through.
	Paths   []checkedPath `json:"paths"`
	Notes   []checkedNote `json:"notes"`
	Seconds float64       `json:"seconds"`
}

// A checkedPath is a path with all differences that were found there.
type checkedPath struct {
	checkedName
	// Source and Target are all that the images have there, as field and value;
	// nil where they have nothing, and for paths that are no files.
	Source map[string]string `json:"source,omitempty"`
	Target map[string]string `json:"target,omitempty"`
	Fields []checkedField    `json:"fields"`

	source, target *consistency.Node
}

// A checkedName is a path. JSON strings are Unicode: what is not is there in
// base64, too.
type checkedName struct {
	Path       string `json:"path"`
	PathBase64 string `json:"pathBase64,omitempty"`
}

func newCheckedName(path string) checkedName {
	name := checkedName{Path: path}
	if !utf8.ValidString(path) {
		name.PathBase64 = base64.StdEncoding.EncodeToString([]byte(path))
	}
	return name
}

// A checkedField is a field that differs.
type checkedField struct {
	Field  string `json:"field"`
	Want   string `json:"want"`
	Got    string `json:"got"`
	Detail string `json:"detail,omitempty"`
}

type checkedNote struct {
	Path string `json:"path"`
	Text string `json:"text"`
}

// checkedCounts is how much was compared.
type checkedCounts struct {
	Paths       int64 `json:"paths"`
	Files       int64 `json:"files"`
	FileBytes   int64 `json:"fileBytes"`
	LayerBytes  int64 `json:"layerBytes"`
	BlobBytes   int64 `json:"blobBytes"`
	BlobChunks  int64 `json:"blobChunks"`
	BlobsUnread int   `json:"blobsUnread"`
}

func sourceImage(name string, image *nydusimage.OCI) *checkedImage {
	return newCheckedImage(name, image.Descriptor.Digest, image.Digest, image.Manifest)
}

func targetImage(name string, image *nydusimage.Image) *checkedImage {
	return newCheckedImage(name, image.Descriptor.Digest, image.Digest, image.Manifest)
}

func newCheckedImage(name string, resolved, digest v1.Hash, manifest *v1.Manifest) *checkedImage {
	return &checkedImage{Reference: name, Resolved: resolved.String(), Manifest: digest.String(), SizeBytes: fullSize(manifest)}
}

// add counts traffic to an image, if there is one.
func (i *checkedImage) add(t traffic) {
	if i != nil {
		i.Requests += t.Requests
		i.FetchedBytes += t.FetchedBytes
	}
}

// settle takes over what the rules found, and why the pair could not be
// compared: either may be nil.
func (p *checkedPair) settle(report *consistency.Report, err error) {
	p.report, p.err, p.Rules = report, err, []checkedRule{}
	p.Differences, p.Paths, p.Ignored = 0, 0, 0
	if report != nil {
		p.Verdict = report.Verdict()
		for i := range report.Results {
			p.take(&report.Results[i])
		}
		p.Compared = checkedCounts(report.Counts)
	}
	if err != nil {
		p.Verdict, p.Error = consistency.Incomplete, err.Error()
	}
	p.Summary = p.summary()
}

// take takes over what a rule found.
func (p *checkedPair) take(result *consistency.Result) {
	rule := checkedRule{
		Rule: result.Rule, Verdict: result.Verdict(), Skipped: result.Skipped,
		Differences: len(result.Differences) + result.More, Ignored: result.Ignored,
		Paths: []checkedPath{}, Notes: []checkedNote{}, Seconds: result.Elapsed.Seconds(),
	}
	if result.Err != nil {
		rule.Error = result.Err.Error()
	}
	for _, d := range result.Differences {
		last := len(rule.Paths) - 1
		if last < 0 || rule.Paths[last].Path != d.Path {
			rule.Paths = append(rule.Paths, checkedPath{checkedName: newCheckedName(d.Path), source: d.Source, target: d.Target})
			last++
		}
		rule.Paths[last].Fields = append(rule.Paths[last].Fields, checkedField{d.Field, d.Want, d.Got, d.Detail})
	}
	for _, n := range result.Notes {
		rule.Notes = append(rule.Notes, checkedNote{n.Path, n.Text})
	}
	p.Rules = append(p.Rules, rule)
	p.Differences += rule.Differences
	p.Paths += len(rule.Paths)
	p.Ignored += rule.Ignored
}

// summary is the verdict in a line. It names the depth: what was not read is not
// vouched for.
func (p *checkedPair) summary() string {
	found := fmt.Sprintf("%s in %s", count(p.Differences, "difference"), count(p.Paths, "path"))
	switch {
	case p.Verdict == consistency.Incomplete && p.Differences > 0:
		return fmt.Sprintf("not completed: %s; found until then: %s", p.Error, found)
	case p.Verdict == consistency.Incomplete:
		return "not completed: " + p.Error
	case p.Verdict == consistency.Different:
		return fmt.Sprintf("different: %s; %s", found, p.depth())
	case p.Source == nil && p.Target == nil:
		return "no fault found; " + p.depth()
	case p.Source == nil:
		return fmt.Sprintf("no fault found; %s; there was no OCI image to compare with", p.depth())
	}
	return "equal; " + p.depth()
}

// depth says how deep the content was looked at.
func (p *checkedPair) depth() string {
	switch {
	case p.Source == nil && p.Target == nil:
		return "no image was read"
	case p.Data == consistency.DepthFull:
		return "every byte read"
	case p.Data == consistency.DepthNone:
		return "content not compared"
	case p.Mount == mountNydusd:
		return "content read as nydusd serves it"
	case p.Compared.BlobBytes > 0:
		return fmt.Sprintf("%s of blob data read, for want of digests", bytesString(p.Compared.BlobBytes))
	}
	return "blob data not read"
}

// limit leaves out the paths behind that with the nth difference, 0 for none, and
// fills in the nodes of the rest. A path is listed whole: a field that differs and
// is not marked would mislead.
func (p *checkedPair) limit(n int) {
	listed := 0
	for i := range p.Rules {
		paths := p.Rules[i].Paths
		for j := range paths {
			if n > 0 && listed >= n {
				p.Rules[i].Paths = paths[:j]
				break
			}
			listed += len(paths[j].Fields)
			paths[j].Source, paths[j].Target = nodeFields(paths[j].source), nodeFields(paths[j].target)
		}
	}
}

func nodeFields(n *consistency.Node) map[string]string {
	if n == nil {
		return nil
	}
	fields := make(map[string]string)
	for _, f := range n.Fields() {
		fields[f.Name] = f.Value
	}
	return fields
}

// writeCheck writes the report as --format says.
func writeCheck(w io.Writer, pairs []*checkedPair, o checkFlags, elapsed time.Duration) error {
	for _, p := range pairs {
		p.limit(o.limit)
	}
	if o.format == formatTable {
		return writeCheckTable(w, pairs)
	}
	document := checkDocument{SchemaVersion: checkSchema, Plugin: version, Verdict: consistency.Skipped, Pairs: pairs, Seconds: elapsed.Seconds()}
	for _, p := range pairs {
		document.Verdict = document.Verdict.Worse(p.Verdict)
	}
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(document); err != nil {
		return err
	}
	_, err := w.Write(inspect.EscapeJSON(buffer.Bytes()))
	return err
}

// count spells a number of things.
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
