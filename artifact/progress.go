package artifact

import "sync/atomic"

// progress counts the files that have been handed to analyzers.
type progress struct {
	report func(done, total int)
	done   atomic.Int64
	total  atomic.Int64
}

// start announces files; it may be called again for more.
func (p *progress) start(files int) { p.total.Add(int64(files)) }

func (p *progress) fileDone() {
	done := p.done.Add(1)
	if p.report != nil {
		p.report(int(min(done, p.total.Load())), int(p.total.Load()))
	}
}
