package main

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/fatih/color"
	"golang.org/x/term"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/consistency"
)

// maxCell is how many characters of a value are shown: with that, a field with
// two digests is one line of a wide terminal.
const maxCell = 80

// maxFact is how many characters are shown of a value that has lines of its own.
const maxFact = 400

// A checkTable writes a report for people. The first error of writing ends it.
type checkTable struct {
	w   io.Writer
	err error
	// differs colours what differs, good and bad the verdicts.
	differs, good, bad *color.Color
}

// writeCheckTable writes pairs for people: what differs, then what was done, and
// the verdict last.
func writeCheckTable(w io.Writer, pairs []*checkedPair) error {
	buffered := bufio.NewWriter(w)
	t := &checkTable{w: buffered, differs: color.New(color.FgRed), good: color.New(color.FgGreen), bad: color.New(color.FgRed, color.Bold)}
	for _, c := range []*color.Color{t.differs, t.good, t.bad} {
		if isColourful(w) {
			c.EnableColor()
		} else {
			c.DisableColor()
		}
	}
	for i, p := range pairs {
		if i > 0 {
			t.print("\n")
		}
		t.pair(p)
	}
	return cmp.Or(t.err, buffered.Flush())
}

// isColourful says whether colours are wanted: on a terminal, unless NO_COLOR is
// set.
func isColourful(w io.Writer) bool {
	if out, ok := w.(nopCloser); ok {
		w = out.Writer
	}
	file, ok := w.(*os.File)
	return ok && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(file.Fd()))
}

func (t *checkTable) print(format string, args ...any) {
	if t.err == nil {
		_, t.err = fmt.Fprintf(t.w, format, args...)
	}
}

func (t *checkTable) pair(p *checkedPair) {
	if p.Platform != "" {
		t.print("Platform     %s\n", printable(p.Platform))
	}
	t.image("OCI image", p.Source)
	t.image("Nydus image", p.Target)
	listed := 0
	for i := range p.Rules {
		listed += t.rule(&p.Rules[i])
	}
	if more := p.Differences - listed; more > 0 {
		t.print("\n… and %s (--limit 0 lists all)\n", count(more, "more difference"))
	}
	t.notes(p)
	if len(p.Rules) > 0 {
		t.rules(p)
		t.print("%s\n", costs(p))
	}
	colour := t.bad
	if p.Verdict == consistency.Equal {
		colour = t.good
	}
	t.print("%s\n", colour.Sprint(oneLine(p.Summary)))
}

func (t *checkTable) image(what string, i *checkedImage) {
	if i != nil {
		t.print("%-11s  %s\n             %s\n", what, printable(i.Reference), i.Manifest)
	}
}

func (t *checkTable) notes(p *checkedPair) {
	first := true
	for _, r := range p.Rules {
		for _, n := range r.Notes {
			if first {
				t.print("\n")
			}
			first = false
			t.print("Note: %s: %s\n", place(r.Rule, n.Path), printable(n.Text))
		}
	}
}

// rule lists the paths in which a rule found differences, and returns how many
// differences it has listed.
func (t *checkTable) rule(r *checkedRule) (listed int) {
	for i := range r.Paths {
		p := &r.Paths[i]
		listed += len(p.Fields)
		t.print("\n%s\n", place(r.Rule, p.Path))
		if p.source == nil && p.target == nil {
			t.facts(p.Fields)
		} else {
			t.rows(pathRows(p))
		}
	}
	return listed
}

// facts lists differences of what is no file: one below the other, for they are
// long.
func (t *checkTable) facts(fields []checkedField) {
	for _, f := range fields {
		t.print("%s\n", t.differs.Sprint("  ! "+cut(f.Field, maxFact)))
		t.print("      expected  %s\n      found     %s\n", cut(f.Want, maxFact), cut(f.Got, maxFact))
		if f.Detail != "" {
			t.print("                %s\n", cut(f.Detail, maxFact))
		}
	}
}

// rows lists the fields of a file, side by side.
func (t *checkTable) rows(rows []row) {
	name, value := 0, 0
	for _, row := range rows {
		name, value = max(name, utf8.RuneCountInString(row.name)), max(value, utf8.RuneCountInString(row.want))
	}
	for _, row := range rows {
		mark := " "
		if row.differs {
			mark = "!"
		}
		line := fmt.Sprintf("  %s %s  %s  %s", mark, pad(row.name, name), pad(row.want, value), row.got)
		line = strings.TrimRight(line, " ")
		if row.differs {
			line = t.differs.Sprint(line)
		}
		t.print("%s\n", line)
	}
}

// place names a rule and a path.
func place(rule consistency.Rule, path string) string {
	if path == string(rule) {
		return path
	}
	return string(rule) + ": " + printable(path)
}

// A row is a field of both sides.
type row struct {
	name, want, got string
	differs         bool
}

// pathRows are the rows for a file: a heading, and all fields of both sides, of
// which those are marked that differ.
func pathRows(p *checkedPath) []row {
	rows := []row{{want: "OCI image", got: "Nydus image"}}
	found := make(map[string]checkedField)
	for _, f := range p.Fields {
		found[f.Field] = f
	}
	nodes := func(name string) (want, got string) { return orDash(p.Source, name), orDash(p.Target, name) }
	var names []string
	listed := make(map[string]bool)
	for _, node := range []*consistency.Node{p.source, p.target} {
		if node == nil {
			continue
		}
		for _, f := range node.Fields() {
			if !listed[f.Name] {
				listed[f.Name] = true
				names = append(names, f.Name)
			}
		}
	}
	for _, name := range names {
		want, got := nodes(name)
		if _, differs := found[name]; !differs {
			rows = append(rows, row{cell(name), cell(want), cell(got), false})
		} else {
			rows = append(rows, fieldRow(found[name]))
		}
	}
	for _, f := range p.Fields {
		if !listed[f.Field] {
			rows = append(rows, fieldRow(f))
		}
	}
	return rows
}

func fieldRow(f checkedField) row {
	r := row{cell(f.Field), cell(f.Want), cell(f.Got), true}
	switch f.Field {
	case "missing":
		r.want, r.got = "is there", "missing"
	case "extra":
		r.want, r.got = "missing", "is there"
	}
	if f.Detail != "" {
		r.got += "  (" + cell(f.Detail) + ")"
	}
	return r
}

func orDash(fields map[string]string, name string) string {
	if value, ok := fields[name]; ok {
		return value
	}
	return "-"
}

// rules says of each rule how it ended.
func (t *checkTable) rules(p *checkedPair) {
	t.print("\n")
	for _, r := range p.Rules {
		said := count(r.Differences, "difference")
		if r.Differences == 0 {
			said = "no difference"
		}
		if r.Ignored > 0 {
			said += fmt.Sprintf(", %d ignored", r.Ignored)
		}
		switch {
		case r.Error != "":
			said += ": " + oneLine(r.Error)
		case r.Skipped != "":
			said = oneLine(r.Skipped)
		}
		t.print("%-10s  %-10s  %5.1f s  %s\n", r.Rule, r.Verdict, r.Seconds, said)
	}
}

// costs says how much was read and compared.
func costs(p *checkedPair) string {
	var read []string
	for _, side := range []struct {
		what  string
		image *checkedImage
	}{{"OCI image", p.Source}, {"Nydus image", p.Target}} {
		if side.image == nil {
			continue
		}
		in := ""
		if side.image.Requests > 0 { // none for a layout on this machine
			in = fmt.Sprintf(" in %s", count(int(side.image.Requests), "request"))
		}
		read = append(read, fmt.Sprintf("%s of the %s's %s%s", bytesString(side.image.FetchedBytes), side.what, bytesString(side.image.SizeBytes), in))
	}
	if len(read) == 0 {
		read = append(read, "no image")
	}
	text := fmt.Sprintf("read %s; %.1f s", strings.Join(read, ", "), p.Seconds)
	if c := p.Compared; c.Paths > 0 {
		text += fmt.Sprintf("; compared %s, content of %s (%s)", count(int(c.Paths), "path"), count(int(c.Files), "file"), bytesString(c.FileBytes))
	}
	return text
}

// cell is a value as it fits into a table.
func cell(value string) string { return cut(value, maxCell) }

// cut is the printable beginning of a value, of at most n characters.
func cut(value string, n int) string {
	text := []rune(printable(value))
	if len(text) > n {
		return string(text[:n-1]) + "…"
	}
	return string(text)
}

func pad(text string, width int) string {
	return text + strings.Repeat(" ", width-utf8.RuneCountInString(text))
}
