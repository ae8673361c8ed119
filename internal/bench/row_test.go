package bench

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var updateFlag = flag.Bool("update", false, "write the plot and the tables of README.md and docs/performance.md anew, from docs/performance.csv")

func TestSummarize(t *testing.T) {
	seconds := func(values ...int) (scans []Scan) {
		for _, v := range values {
			scans = append(scans, Scan{Time: time.Duration(v) * time.Second, CPU: time.Second, PeakMemory: 10, Bytes: 50, Requests: 7})
		}
		return scans
	}
	row := Summarize(Kind{Image: "i"}, seconds(1, 20, 3), seconds(2, 100, 3))
	assert.Equal(t, "i", row.Image)
	assert.Equal(t, 3, row.Runs)
	assert.Equal(t, 3.0, row.Seconds, "the median")
	assert.Equal(t, 0.5, row.SecondsRatio, "the median of 0.5, 0.2 and 1, not the ratio of medians")
	assert.Equal(t, 1.0, row.BytesRatio)
	assert.Equal(t, 7, row.Requests)

	row = Summarize(Kind{}, []Scan{{Bytes: 5}}, []Scan{{}})
	assert.Zero(t, row.BytesRatio, "nothing to divide by")
	assert.Zero(t, Summarize(Kind{}, seconds(1), nil).SecondsRatio, "nothing to compare with")
}

// someRows are a baseline and two others.
func someRows() []Row {
	kind := Kind{Image: "debian", Link: linkNames[0], Scanners: "vuln", State: "cold", Tool: Baseline, Form: "oci"}
	rows := []Row{{Kind: kind, Runs: 3, Seconds: 2, SecondsRatio: 1, Bytes: 30e6, BytesRatio: 1, PeakMemory: 100e6, MemoryRatio: 1, Packages: 30}}
	kind.Tool, kind.Form = Native, "v6-zstd"
	rows = append(rows, Row{Kind: kind, Runs: 3, Seconds: 1, SecondsRatio: 0.5, CPUSeconds: 0.25, CPURatio: 0.125, PeakMemory: 120e6,
		MemoryRatio: 1.2, Bytes: 3e6, BytesRatio: 0.05, Requests: 9, TemporaryDisk: 4096, CacheDisk: 1, Findings: 2, Packages: 30, Missing: 1, Added: 2})
	kind.Tool, kind.State = Rootfs, "warm"
	return append(rows, Row{Kind: kind, SecondsRatio: 12})
}

func TestMerge(t *testing.T) {
	old := someRows()
	new := slices.Clone(old[:1])
	new[0].Seconds = 99
	merged := Merge(slices.Clone(old), new)
	require.Len(t, merged, 2, "what was measured beside the old baseline is gone, what was in another state is not")
	assert.Equal(t, 99.0, merged[0].Seconds)
	assert.Equal(t, "warm", merged[1].State)

	shuffled := slices.Clone(old)
	slices.Reverse(shuffled)
	assert.Equal(t, old, Merge(nil, shuffled), "in the table's order")
}

func TestCSV(t *testing.T) {
	rows := someRows()
	var written bytes.Buffer
	require.NoError(t, WriteCSV(&written, rows))
	read, err := ReadCSV(bytes.NewReader(written.Bytes()))
	require.NoError(t, err)
	assert.Equal(t, rows, read)

	_, err = ReadCSV(strings.NewReader("image,seconds\n"))
	assert.ErrorContains(t, err, "the columns are not")
	_, err = ReadCSV(strings.NewReader(strings.Replace(written.String(), "30000000", "many", 1)))
	assert.ErrorContains(t, err, "line 2, column bytes")
}

func TestTable(t *testing.T) {
	var written bytes.Buffer
	require.NoError(t, WriteTable(&written, someRows()))
	lines := strings.Split(written.String(), "\n")
	require.Len(t, lines, 6)
	assert.Equal(t, "| debian | vuln     | loopback | cold  | trivy nydus          | v6-zstd |     1.00 (50 %) | 0.25 (12 %) | 120 MB (120 %) | "+
		"3.0 MB (5.0 %) |        9 |         4.1 kB | 2 (1 missing, 2 added) |       30 |", lines[3])
	assert.Contains(t, lines[4], "(12 times)")
	for _, line := range lines[:5] {
		assert.Len(t, line, len(lines[0]))
	}
}

func TestPlot(t *testing.T) {
	rows := someRows()
	rows[0].Image, rows[1].Image = "wordpress", "wordpress"
	var written bytes.Buffer
	require.NoError(t, WritePlot(&written, rows))
	plot := written.String()
	decoder := xml.NewDecoder(strings.NewReader(plot))
	for {
		_, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err, plot)
	}
	assert.Contains(t, plot, ">wordpress</text>")
	assert.Contains(t, plot, ">5.0 %</text>", "the bytes")
	assert.Contains(t, plot, ">50 %</text>", "the time")
	assert.NotContains(t, plot, ">12 times</text>", "of a warm cache")
	assert.NotContains(t, plot, "debian", "nothing of it was measured with an empty cache")
}

// TestSummary: what was not measured shows as nothing that could be taken for a number of something.
func TestSummary(t *testing.T) {
	var written bytes.Buffer
	require.NoError(t, WriteSummary(&written, someRows()))
	lines := strings.Split(written.String(), "\n")
	require.Len(t, lines, 4)
	assert.Equal(t, "| debian | 30.0 MB | 5.0 % | 50 % | – | – | – | – |", lines[2])
	assert.Equal(t, strings.Count(lines[0], "|"), strings.Count(lines[2], "|"))
	assert.Equal(t, strings.Count(lines[1], "|"), strings.Count(lines[2], "|"))
}

// TestCommitted: plot and tables that are committed show the numbers that are committed.
func TestCommitted(t *testing.T) {
	raw, err := os.ReadFile("../../docs/performance.csv")
	require.NoError(t, err)
	rows, err := ReadCSV(bytes.NewReader(raw))
	require.NoError(t, err)
	for name, write := range map[string]func(io.Writer, []Row) error{
		"../../docs/performance.svg": WritePlot,
		"../../docs/performance.md":  WriteTable,
		"../../README.md":            WriteSummary,
	} {
		var text bytes.Buffer
		require.NoError(t, write(&text, rows))
		document, err := os.ReadFile(name)
		require.NoError(t, err)
		want := text.String()
		if strings.HasSuffix(name, ".md") {
			const begin, end = "<!-- measured -->\n\n", "\n<!-- /measured -->"
			before, rest, ok := strings.Cut(string(document), begin)
			require.True(t, ok, name)
			_, after, ok := strings.Cut(rest, end)
			require.True(t, ok, name)
			want = before + begin + want + end + after
		}
		if *updateFlag {
			require.NoError(t, os.WriteFile(name, []byte(want), 0o644))
			continue
		}
		assert.Equal(t, want, string(document), "go test ./internal/bench -run TestCommitted -update")
	}
}
