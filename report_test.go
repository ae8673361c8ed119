package main

import (
	"reflect"
	"testing"

	"github.com/stretchr/testify/assert"

	dbtypes "github.com/aquasecurity/trivy-db/pkg/types"
	ftypes "github.com/aquasecurity/trivy/pkg/fanal/types"
	iacscan "github.com/aquasecurity/trivy/pkg/iac/scan"
	"github.com/aquasecurity/trivy/pkg/types"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/inspect"
)

// findings are some of every kind about a file and its text.
func findings(name, text, highlighted string) types.Results {
	line := ftypes.Line{Content: text, Highlighted: highlighted}
	layer := ftypes.Layer{CreatedBy: text}
	vulnerability := types.DetectedVulnerability{PkgName: name, PkgPath: name, Layer: layer, Vulnerability: dbtypes.Vulnerability{Description: text, References: []string{name}}}
	return types.Results{{
		Target:          name,
		Packages:        []ftypes.Package{{ID: name, DependsOn: []string{name}}},
		Vulnerabilities: []types.DetectedVulnerability{vulnerability},
		Secrets:         []types.DetectedSecret{{Match: text, Code: ftypes.Code{Lines: []ftypes.Line{line}}}},
		Misconfigurations: []types.DetectedMisconfiguration{{
			Message:       text,
			CauseMetadata: ftypes.CauseMetadata{RenderedCause: ftypes.RenderedCause{Raw: text, Highlighted: highlighted}, Occurrences: []ftypes.Occurrence{{Filename: name}}},
		}},
		Licenses:         []types.DetectedLicense{{FilePath: name}},
		ModifiedFindings: []types.ModifiedFinding{{Finding: vulnerability}},
		CustomResources:  []ftypes.CustomResource{{Data: map[string]any{name: name}}},
	}}
}

func spelled(results types.Results) types.Results {
	spellOut(reflect.ValueOf(&results).Elem(), inspect.EscapeLine)
	return results
}

// TestOrdinaryReport: what has no control characters stays as Trivy writes it, its
// colours too.
func TestOrdinaryReport(t *testing.T) {
	for _, text := range []string{
		"", "tab\tand back\\slash", "no-break\u00a0space, \u00fcml\u00e4ut, \ufffd, \u6f22\u5b57", "\ufeffBOM", "\u05e9\u05dc\u05d5\u05dd\u200f and \u200emarks",
	} {
		highlighted, ok := iacscan.Highlight("Dockerfile", "FROM debian\nRUN echo '"+text+"'\n", iacscan.DarkTheme)
		assert.True(t, ok)
		plain := "FROM debian\nRUN echo '" + text + "'\n"
		assert.NotEqual(t, plain, highlighted)
		assert.Equal(t, findings(text, plain, highlighted), spelled(findings(text, plain, highlighted)))
	}
	lines := "line ends\r\nof Windows\r"
	assert.Equal(t, lines, spelled(findings("", lines, lines))[0].Secrets[0].Code.Lines[0].Highlighted)
}

// TestEvilReport: names have no line ends, texts may, and nothing else that a terminal
// would obey.
func TestEvilReport(t *testing.T) {
	const (
		evil      = "a\x1b[31m\x07\x7f\u009b\u202e\xe9\rb\nc"
		safeText  = `a\x1b[31m\x07\x7f\xc2\x9b\xe2\x80\xae\xe9\x0db` + "\nc"
		safeName  = `a\x1b[31m\x07\x7f\xc2\x9b\xe2\x80\xae\xe9\x0db\x0ac`
		coloured  = "\x1b[34m" + evil + "\x1b[0m"
		windows   = "x\r\n"
		noReturns = `x\x0d` + "\n"
	)
	got, want := spelled(findings(evil, evil, coloured)), findings(safeName, safeText, safeText)
	assert.Equal(t, want, got)
	assert.Equal(t, noReturns, spelled(findings("", windows, windows))[0].Vulnerabilities[0].Layer.CreatedBy, "Trivy cuts it anywhere")
}

// TestShiftedColours: a sequence of the image that highlighting has moved into another
// line goes.
func TestShiftedColours(t *testing.T) {
	got := spelled(findings("", "clean", "\x1b[34m\x1b]0;title\x07\x1b[0m"))
	assert.Equal(t, "clean", got[0].Secrets[0].Code.Lines[0].Highlighted)
}
