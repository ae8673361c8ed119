package bench

import (
	"cmp"
	"slices"
	"time"
)

// Baseline is the tool that the others are compared with.
const Baseline = "trivy image"

// Kind says what was scanned, over which link, for what and by whom.
type Kind struct {
	Image    string // by its name
	Link     string // by its name
	Scanners string // as --scanners has them
	State    string // of the cache: "cold", "warm" (the same image was scanned), "sibling" (one with the same base was)
	Tool     string
	Form     string // of the image: "oci", or RAFS version and compressor
}

// compares says whether k and other are about the same work, by whatever tool.
func (k Kind) compares(other Kind) bool {
	k.Tool, k.Form = other.Tool, other.Form
	return k == other
}

// Scan is what one scan took.
type Scan struct {
	Time       time.Duration
	CPU        time.Duration // user and system, of all processes that the tool started
	PeakMemory int64         // bytes, resident, of the largest of these processes
	Bytes      int64         // of the bodies that the registry answered with
	Requests   int
}

// Row is what scans of a kind took: medians, and medians of the ratios to the baseline's scans of the same run.
type Row struct {
	Kind
	Runs          int
	Seconds       float64
	SecondsRatio  float64 // 0, as other ratios, where the baseline's value is 0 or was not measured
	CPUSeconds    float64
	CPURatio      float64
	PeakMemory    int64
	MemoryRatio   float64
	Bytes         int64
	BytesRatio    float64
	Requests      int
	TemporaryDisk int64 // bytes, the most that was seen in the folder for temporary files, sampled
	CacheDisk     int64 // bytes that the scan added to Trivy's cache folder
	Findings      int   // vulnerabilities, secrets and failed checks
	Packages      int
	Missing       int // findings and packages that the baseline has and this tool has not
	Added         int // the reverse
}

// Summarize makes a row of the scans of a kind. baseline has those of the baseline, run by run; nil where there are none.
func Summarize(kind Kind, scans, baseline []Scan) Row {
	values := func(scans []Scan, value func(Scan) float64) []float64 {
		var out []float64
		for _, s := range scans {
			out = append(out, value(s))
		}
		return out
	}
	both := func(value func(Scan) float64) (float64, float64) {
		own := values(scans, value)
		return median(own), medianRatio(own, values(baseline, value))
	}
	row := Row{Kind: kind, Runs: len(scans)}
	row.Seconds, row.SecondsRatio = both(func(s Scan) float64 { return s.Time.Seconds() })
	row.CPUSeconds, row.CPURatio = both(func(s Scan) float64 { return s.CPU.Seconds() })
	var memory, bytes float64
	memory, row.MemoryRatio = both(func(s Scan) float64 { return float64(s.PeakMemory) })
	bytes, row.BytesRatio = both(func(s Scan) float64 { return float64(s.Bytes) })
	requests, _ := both(func(s Scan) float64 { return float64(s.Requests) })
	row.PeakMemory, row.Bytes, row.Requests = int64(memory), int64(bytes), int(requests)
	return row
}

// median is the middle value, of an even number the upper one; 0 of none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	return slices.Sorted(slices.Values(values))[len(values)/2]
}

// medianRatio compares pair by pair, since a machine's speed drifts. Pairs without a value to divide by are left out.
func medianRatio(a, b []float64) float64 {
	var ratios []float64
	for i := range min(len(a), len(b)) {
		if b[i] != 0 {
			ratios = append(ratios, a[i]/b[i])
		}
	}
	return median(ratios)
}

// Merge is the rows of old and new in the order of a table. Where new measured an image over a link for some scanners in a
// state, the old rows of that are left out: ratios of different runs do not belong side by side.
func Merge(old, new []Row) []Row {
	merged := slices.Clone(new)
	for _, row := range old {
		if !slices.ContainsFunc(new, func(n Row) bool { return n.compares(row.Kind) }) {
			merged = append(merged, row)
		}
	}
	slices.SortStableFunc(merged, func(a, b Row) int {
		return cmp.Or(
			compareIn(imageNames, a.Image, b.Image),
			compareIn(scannerSets, a.Scanners, b.Scanners),
			compareIn(linkNames, a.Link, b.Link),
			compareIn(states, a.State, b.State),
			compareIn(tools, a.Tool, b.Tool),
			cmp.Compare(b.Form, a.Form), // v6 first
		)
	})
	return merged
}

// plottedLinks are the links between which the plot tells.
var plottedLinks = []string{"loopback", "1 Gbit/s, 2 ms", "100 Mbit/s, 20 ms"}

// The values of a Kind in the order in which they are shown.
var (
	imageNames  = []string{"tiny", "debian", "wordpress", "node", "tensorflow"}
	linkNames   = append(plottedLinks, "100 Mbit/s, 20 ms, single ranges")
	scannerSets = []string{"vuln", "vuln,secret,misconfig"}
	states      = []string{"cold", "warm", "sibling"}
	tools       = []string{Baseline, Rootfs, Native, Nydusd}
)

// The tools beside the Baseline.
const (
	Rootfs = "nydusd, trivy rootfs" // what was there before: a mount, and a scan of the folder
	Native = "trivy nydus"
	Nydusd = "trivy nydus --mount nydusd"
)

// compareIn compares by place in the list; what is not in it comes first.
func compareIn(list []string, a, b string) int {
	return cmp.Compare(slices.Index(list, a), slices.Index(list, b))
}
