package bench

import (
	"encoding/xml"
	"fmt"
	"io"
	"slices"
	"strings"
)

// The measures of the plot in pixels. Text and lines are of a grey that reads on white and on black.
const (
	labelWidth  = 150
	panelWidth  = 190
	panelGap    = 14
	barHeight   = 9
	barGap      = 3
	groupGap    = 12
	headHeight  = 62
	footHeight  = 26
	longestBar  = 1.5 // in baselines: longer ones are cut, and their number says how long they are
	valueWidth  = 36  // for the number behind the longest bar
	plotGrey    = "#7d8590"
	plotOutline = `font-family="system-ui, sans-serif" fill="` + plotGrey + `"`
)

// bars are what the plot shows of each image: tool, form, a name and a colour.
var bars = []struct{ tool, form, name, colour string }{
	{Native, "v6-zstd", "trivy nydus (v6)", "#2f81f7"},
	{Native, "v5-lz4_block", "trivy nydus (v5)", "#79a8dd"},
	{Nydusd, "v6-zstd", "trivy nydus --mount nydusd (v6)", "#3fa66a"},
	{Rootfs, "v6-zstd", "nydusd and trivy rootfs (v6)", "#d29922"},
}

// panel is a column of the plot: the ratio that it shows of scans over a link.
type panel struct {
	title string
	link  string // "": any; then the first that was measured
	ratio func(Row) float64
}

// WritePlot draws, as SVG, what scans with an empty cache took in percent of the baseline: bytes, and the time over each
// link, for each image and set of scanners. What was not measured is left out.
func WritePlot(w io.Writer, rows []Row) error {
	cold := slices.DeleteFunc(slices.Clone(rows), func(r Row) bool { return r.State != "cold" })
	panels := []panel{{"bytes", "", func(r Row) float64 { return r.BytesRatio }}}
	for _, link := range plottedLinks {
		panels = append(panels, panel{"time, " + link, link, func(r Row) float64 { return r.SecondsRatio }})
	}
	type group struct{ image, scanners string }
	var groups []group
	for _, scanners := range scannerSets {
		for _, image := range imageNames {
			if slices.ContainsFunc(cold, func(r Row) bool { return r.Image == image && r.Scanners == scanners }) {
				groups = append(groups, group{image, scanners})
			}
		}
	}
	groupHeight := len(bars)*(barHeight+barGap) + groupGap
	width := labelWidth + len(panels)*(panelWidth+panelGap)
	height := headHeight + len(groups)*groupHeight + footHeight

	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img">`+"\n", width, height, width, height)
	fmt.Fprintf(&b, "<title>Scans with an empty cache, in percent of trivy image</title>\n<g %s font-size=\"11\">\n", plotOutline)
	for i, bar := range bars {
		x := labelWidth + i*(width-labelWidth)/len(bars)
		fmt.Fprintf(&b, `<rect x="%d" y="8" width="10" height="10" fill="%s"/>`, x, bar.colour)
		text(&b, x+15, 17, "start", bar.name)
	}
	for p, panel := range panels {
		left := labelWidth + p*(panelWidth+panelGap)
		hundred := left + barLength(1)
		text(&b, left, headHeight-20, "start", panel.title)
		fmt.Fprintf(&b, `<path d="M%d %dV%dM%d %dV%d" stroke="%s" stroke-opacity="0.5" fill="none"/>`+"\n",
			left, headHeight-8, height-footHeight, hundred, headHeight-8, height-footHeight, plotGrey)
		text(&b, hundred, height-footHeight+14, "middle", "100 %")
		for g, group := range groups {
			for i, bar := range bars {
				n := slices.IndexFunc(cold, func(r Row) bool {
					return r.Image == group.image && r.Scanners == group.scanners && r.Tool == bar.tool && r.Form == bar.form &&
						(panel.link == "" || r.Link == panel.link)
				})
				if n < 0 {
					continue
				}
				ratio := panel.ratio(cold[n])
				y := headHeight + g*groupHeight + i*(barHeight+barGap)
				fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%d" height="%d" fill="%s"/>`, left, y, max(1, barLength(ratio)), barHeight, bar.colour)
				text(&b, left+barLength(ratio)+4, y+barHeight-1, "start", percent(ratio))
			}
		}
	}
	for g, group := range groups {
		y := headHeight + g*groupHeight + 14
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end" font-weight="600">%s</text>`, labelWidth-10, y, escape(group.image))
		text(&b, labelWidth-10, y+14, "end", group.scanners)
	}
	text(&b, labelWidth-10, headHeight-20, "end", "in percent of trivy image")
	b.WriteString("</g>\n</svg>\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// barLength is the length in pixels of a bar for a ratio.
func barLength(ratio float64) int {
	return int(min(ratio, longestBar) / longestBar * (panelWidth - valueWidth))
}

func text(b *strings.Builder, x, y int, anchor, s string) {
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="%s">%s</text>`+"\n", x, y, anchor, escape(s))
}

func escape(s string) string {
	var b strings.Builder
	if err := xml.EscapeText(&b, []byte(s)); err != nil {
		panic(err) // a strings.Builder takes everything
	}
	return b.String()
}
