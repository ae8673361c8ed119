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
	line.begin(file)
	bar := template.New(0)
	bar.SetWriter(&line)
	bar.Set(pb.Terminal, true).Set(pb.ReturnSymbol, "\r").Set(pb.CleanOnFinish, true)
	bar.SetWidth(line.width())
	return bar
}

// A barLine is the line of a terminal on which a progress bar is. What else is written
// there takes the bar away first, which comes again with its next step.
type barLine struct {
	mu    sync.Mutex
	file  *os.File
	shown bool
}

// line is that of the process: its log is one, too.
var line barLine

func (l *barLine) begin(file *os.File) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.file, l.shown = file, false
}

// width is that of the terminal now. The bar would take that of another: of the one
// that controls the process.
func (l *barLine) width() int {
	if width, _, err := term.GetSize(int(l.file.Fd())); err == nil && width > 0 {
		return width
	}
	return defaultWidth
}

// Write draws the bar.
func (l *barLine) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shown = true
	return l.file.Write(p)
}

// beside runs what writes to the terminal.
func (l *barLine) beside(write func() error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shown {
		l.shown = false
		_, _ = fmt.Fprintf(l.file, "\r%*s\r", l.width(), "")
	}
	return write()
}

// update shows that so many of so many files are done.
func (m *meter) update(done, total int) {
	if m == nil {
		return
	}
	m.once.Do(func() { m.bar.Start() })
	m.bar.Set("read", fmt.Sprintf("%s of %s", bytesString(m.traffic.Bytes()), bytesString(m.size)))
	m.bar.SetWidth(line.width()).SetTotal(int64(total)).SetCurrent(int64(done))
}

// stop takes the bar away.
func (m *meter) stop() {
	if m != nil && m.bar.IsStarted() {
		m.bar.Finish()
	}
}
