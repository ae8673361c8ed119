package main

import (
	"sync"
	"time"

	"github.com/cheggaaa/pb/v3"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/consistency"
)

// A checkMeter shows on a terminal how far a check is. The nil meter shows
// nothing.
type checkMeter struct {
	bar  *pb.ProgressBar
	end  chan struct{}
	done sync.WaitGroup
}

// watch shows how much of what the check will read has come.
func (c *checker) watch(images consistency.Images) *checkMeter {
	bar := newBar(c.stderr, c.options, `{{counters . }} {{bar . }} {{speed . }}`)
	if bar == nil {
		return nil
	}
	var total int64
	if images.Source != nil {
		total += fullSize(images.Source.Manifest)
	}
	if c.ours.check.Data == consistency.DepthFull {
		total += fullSize(images.Target.Manifest)
	} else {
		total += images.Target.BootstrapLayer.Size
	}
	m := &checkMeter{bar: bar.SetTotal(total).Set(pb.Bytes, true), end: make(chan struct{})}
	m.bar.Start()
	m.done.Go(func() {
		ticker := time.NewTicker(200 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-m.end:
				return
			case <-ticker.C:
				// The tails of blobs are not in the estimate.
				m.bar.SetWidth(line.width()).SetCurrent(min(total, c.source.traffic.Bytes()+c.target.traffic.Bytes()))
			}
		}
	})
	return m
}

// stop takes the bar away.
func (m *checkMeter) stop() {
	if m != nil {
		close(m.end)
		m.done.Wait()
		m.bar.Finish()
	}
}
