package bench

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// summaryLinks are the links that the summary shows, by the short names that it has for them.
var summaryLinks = []struct{ link, name string }{{"loopback", "loopback"}, {"100 Mbit/s, 20 ms", "100 Mbit/s"}}

// WriteSummary writes a short Markdown table: of each image what scans of its v6 form with an empty cache took, in percent of
// the baseline.
func WriteSummary(w io.Writer, rows []Row) error {
	table := [][]string{{"image", "bytes that " + Baseline + " fetches"}, {"---", "--:"}}
	for _, scanners := range scannerSets {
		table[0] = append(table[0], scanners+": bytes")
		for _, l := range summaryLinks {
			table[0] = append(table[0], "time, "+l.name)
		}
	}
	for range table[0][2:] {
		table[1] = append(table[1], "--:")
	}
	for _, image := range imageNames {
		kind := Kind{Image: image, Scanners: scannerSets[0], Link: summaryLinks[0].link, State: "cold", Tool: Baseline, Form: "oci"}
		baseline, ok := find(rows, kind)
		if !ok {
			continue
		}
		cells := []string{image, megabytes(baseline.Bytes)}
		kind.Tool, kind.Form = Native, "v6-zstd"
		for _, scanners := range scannerSets {
			kind.Scanners = scanners
			for n, l := range summaryLinks {
				kind.Link = l.link
				row, _ := find(rows, kind)
				if n == 0 {
					cells = append(cells, percent(row.BytesRatio))
				}
				cells = append(cells, percent(row.SecondsRatio))
			}
		}
		table = append(table, cells)
	}
	for _, cells := range table {
		if _, err := fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | ")); err != nil {
			return err
		}
	}
	return nil
}

// find returns the row of a kind.
func find(rows []Row, kind Kind) (Row, bool) {
	n := slices.IndexFunc(rows, func(r Row) bool { return r.Kind == kind })
	if n < 0 {
		return Row{}, false
	}
	return rows[n], true
}
