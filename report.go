package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"

	ftypes "github.com/aquasecurity/trivy/pkg/fanal/types"
	"github.com/aquasecurity/trivy/pkg/flag"
	"github.com/aquasecurity/trivy/pkg/types"
	xos "github.com/aquasecurity/trivy/pkg/x/os"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/inspect"
)

// report lets Trivy write a report so that a terminal obeys nothing in it that comes
// from the image. Tables are for people, and end on terminals through pagers and
// logs as well, so names are spelled out in all of them. Other formats are for
// programs: they stay Trivy's, but for what is written to a terminal itself.
func (s *session) report(ctx context.Context, options flag.Options, report types.Report) error {
	if options.Format == types.FormatTable {
		spellOut(reflect.ValueOf(&report.ArtifactName).Elem(), inspect.EscapeLine)
		spellOut(reflect.ValueOf(&report.Results).Elem(), inspect.EscapeLine)
	} else if options.Output == "" && inspect.IsTerminal(os.Stdout) {
		written, err := s.reportText(ctx, options, report)
		if err != nil {
			return err
		}
		if _, err := io.WriteString(os.Stdout, forTerminal(options.Format, written)); err != nil {
			return fmt.Errorf("write the report: %w", err)
		}
		return nil
	}
	if err := s.runner.Report(ctx, options, report); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// reportText lets Trivy write the report, to a file as it can.
func (s *session) reportText(ctx context.Context, options flag.Options, report types.Report) ([]byte, error) {
	file, err := xos.CreateTemp("", "nydus-report-")
	if err != nil {
		return nil, fmt.Errorf("write the report: %w", err)
	}
	defer os.Remove(file.Name())
	defer file.Close()
	options.Output = file.Name()
	if err := s.runner.Report(ctx, options, report); err != nil {
		return nil, fmt.Errorf("write the report: %w", err)
	}
	written, err := os.ReadFile(file.Name())
	if err != nil {
		return nil, fmt.Errorf("write the report: %w", err)
	}
	return written, nil
}

// notJSON are the formats for programs that are no JSON.
var notJSON = []types.Format{types.FormatTemplate, types.FormatSPDX}

// forTerminal escapes a report that is no table: a document of JSON means the same
// then.
func forTerminal(format types.Format, written []byte) string {
	if slices.Contains(notJSON, format) {
		return inspect.EscapeText(string(written))
	}
	return string(inspect.EscapeJSON(written))
}

// texts are the fields of Trivy's findings whose strings may have several lines. In
// others a line end would let a name look like a line of the report.
var texts = map[string]func(string) string{
	"Description": inspect.EscapeText,
	"Title":       inspect.EscapeText,
	"Message":     inspect.EscapeText,
	"Resolution":  inspect.EscapeText,
	"Statement":   inspect.EscapeText,
	"Traces":      inspect.EscapeText,
	"Match":       inspect.EscapeText,
	"Content":     inspect.EscapeText,
	"Raw":         inspect.EscapeText,
	// A command of several lines. Trivy shows its beginning, which must not end in CR.
	"CreatedBy": func(s string) string { return strings.ReplaceAll(inspect.EscapeText(s), "\r", `\x0d`) },
}

// spellOut applies escape, or what texts has for a field, to all strings of a value
// that can be set.
func spellOut(v reflect.Value, escape func(string) string) {
	switch v.Kind() {
	case reflect.String:
		if s := v.String(); v.CanSet() && escape(s) != s {
			v.SetString(escape(s))
		}
	case reflect.Pointer:
		spellOut(v.Elem(), escape)
	case reflect.Interface:
		if v.CanSet() && !v.IsNil() {
			v.Set(spelledOut(v.Elem(), escape))
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			spellOut(v.Index(i), escape)
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			value := spelledOut(v.MapIndex(key), escape)
			v.SetMapIndex(key, reflect.Value{})
			v.SetMapIndex(spelledOut(key, escape), value)
		}
	case reflect.Struct:
		spellOutColours(v)
		for i := range v.NumField() {
			field := v.Type().Field(i)
			switch own, ok := texts[field.Name]; {
			case !field.IsExported() || field.Name == "Highlighted":
			case ok:
				spellOut(v.Field(i), own)
			default:
				spellOut(v.Field(i), escape)
			}
		}
	}
}

// spelledOut is spellOut of a copy.
func spelledOut(v reflect.Value, escape func(string) string) reflect.Value {
	c := reflect.New(v.Type()).Elem()
	c.Set(v)
	spellOut(c, escape)
	return c
}

// colours are the sequences by which Trivy highlights lines of a file.
var colours = regexp.MustCompile(`\x1b\[[0-9;]*m`)

// spellOutColours gives up the colours of lines of a file that hold what a terminal
// would obey: nothing tells then which sequences are Trivy's.
func spellOutColours(v reflect.Value) {
	if !v.CanAddr() {
		return
	}
	var plain string
	var highlighted *string
	switch lines := v.Addr().Interface().(type) {
	case *ftypes.Line:
		plain, highlighted = lines.Content, &lines.Highlighted
	case *ftypes.RenderedCause:
		plain, highlighted = lines.Raw, &lines.Highlighted
	default:
		return
	}
	withoutColours := colours.ReplaceAllString(*highlighted, "")
	if inspect.EscapeText(plain) != plain || inspect.EscapeText(withoutColours) != withoutColours {
		*highlighted = inspect.EscapeText(plain)
	}
}
