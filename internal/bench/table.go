package bench

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// WriteTable writes the rows as a Markdown table, aligned so that it reads on a terminal as well.
func WriteTable(w io.Writer, rows []Row) error {
	cells := [][]string{{"image", "scanners", "link", "cache", "tool", "form", "seconds", "CPU s", "memory", "bytes", "requests",
		"temporary disk", "findings", "packages"}}
	const firstNumber = 6 // of the columns; those from here on are aligned to the right
	for _, r := range rows {
		cells = append(cells, []string{
			r.Image, r.Scanners, r.Link, r.State, r.Tool, r.Form,
			fmt.Sprintf("%.2f", r.Seconds) + r.percent(r.SecondsRatio),
			fmt.Sprintf("%.2f", r.CPUSeconds) + r.percent(r.CPURatio),
			megabytes(r.PeakMemory) + r.percent(r.MemoryRatio),
			megabytes(r.Bytes) + r.percent(r.BytesRatio),
			fmt.Sprint(r.Requests),
			megabytes(r.TemporaryDisk),
			fmt.Sprint(r.Findings) + r.differs(),
			fmt.Sprint(r.Packages),
		})
	}
	widths := make([]int, len(cells[0]))
	for _, line := range cells {
		for i, cell := range line {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for n, line := range cells {
		if n == 1 {
			if _, err := io.WriteString(w, rule(widths, firstNumber)); err != nil {
				return err
			}
		}
		var b strings.Builder
		for i, cell := range line {
			padding := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i < firstNumber {
				fmt.Fprintf(&b, "| %s%s ", cell, padding)
			} else {
				fmt.Fprintf(&b, "| %s%s ", padding, cell)
			}
		}
		if _, err := io.WriteString(w, b.String()+"|\n"); err != nil {
			return err
		}
	}
	return nil
}

// rule is the line between the head of a table and the rest.
func rule(widths []int, firstNumber int) string {
	var b strings.Builder
	for i, width := range widths {
		if i < firstNumber {
			b.WriteString("|" + strings.Repeat("-", width+2))
		} else {
			b.WriteString("|" + strings.Repeat("-", width+1) + ":")
		}
	}
	return b.String() + "|\n"
}

// percent spells a ratio to the baseline; the baseline has none to itself.
func (r Row) percent(ratio float64) string {
	if r.Tool == Baseline || ratio == 0 {
		return ""
	}
	return " (" + percent(ratio) + ")"
}

// differs says how the report differs from the baseline's.
func (r Row) differs() string {
	if r.Missing == 0 && r.Added == 0 {
		return ""
	}
	return fmt.Sprintf(" (%d missing, %d added)", r.Missing, r.Added)
}

// percent spells a ratio; none, where nothing was measured, is a dash.
func percent(ratio float64) string {
	switch {
	case ratio == 0:
		return "–"
	case ratio < 0.0995:
		return fmt.Sprintf("%.1f %%", 100*ratio)
	case ratio < 10:
		return fmt.Sprintf("%.0f %%", 100*ratio)
	default:
		return fmt.Sprintf("%.0f times", ratio)
	}
}

func megabytes(n int64) string {
	switch mb := float64(n) / 1e6; {
	case n == 0:
		return "0"
	case mb < 0.1:
		return fmt.Sprintf("%.1f kB", 1e3*mb)
	case mb < 1:
		return fmt.Sprintf("%.0f kB", 1e3*mb)
	case mb < 100:
		return fmt.Sprintf("%.1f MB", mb)
	default:
		return fmt.Sprintf("%.0f MB", mb)
	}
}
