package main

import (
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/cheggaaa/pb/v3"
	"golang.org/x/term"

	"github.com/aquasecurity/trivy/pkg/flag"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
)

// A meter shows on a terminal how far a scan is. The nil meter shows nothing.
type meter struct {
	bar     *pb.ProgressBar
	traffic *nydusimage.Traffic
	size    int64
	once    sync.Once
}

// defaultWidth is that of a terminal that does not say.
const defaultWidth = 80

// newMeter returns nil where nobody watches.
func newMeter(stderr io.Writer, options flag.Options, traffic *nydusimage.Traffic, size int64) *meter {
	bar := newBar(stderr, options, `{{counters . }} files {{bar . }} {{string . "read"}}`)
	if bar == nil {
		return nil
	}
	return &meter{bar: bar, traffic: traffic, size: size}
}

// newBar returns a progress bar that has not been started, nil where nobody
// watches.
func newBar(stderr io.Writer, options flag.Options, template pb.ProgressBarTemplate) *pb.ProgressBar {
	file, ok := stderr.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) || options.Quiet || options.NoProgress {
		return nil
	}
	bar := template.New(0)
	bar.SetWriter(stderr)
	if width, _, err := term.GetSize(int(file.Fd())); err != nil || width <= 0 {
		bar.SetWidth(defaultWidth)
	}
	return bar
}

// update shows that so many of so many files are done.
func (m *meter) update(done, total int) {
	if m == nil {
		return
	}
	m.once.Do(func() { m.bar.Start() })
	m.bar.Set("read", fmt.Sprintf("%s of %s", bytesString(m.traffic.Bytes()), bytesString(m.size)))
	m.bar.SetTotal(int64(total)).SetCurrent(int64(done))
}

// stop ends the line.
func (m *meter) stop() {
	if m != nil && m.bar.IsStarted() {
		m.bar.Finish()
	}
}
