package inspect

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

const (
	// batchBytes is how much decompressed data is loaded together. Twice as much is
	// in memory: one batch is loaded while the one before is written.
	batchBytes = 16 << 20
	// batchParts bounds how many files wait in a batch, most of them without data.
	batchParts = 4096
)

// A source is a part of a tree whose content is copied, or with all its bytes a
// whole file of it.
type source struct {
	path     string // as package rafs has it
	inode    rafs.Inode
	from, to int64  // of a regular file: the bytes to copy
	link     string // what it is a hard link to, and not copied again
}

// whole is a source of all of an inode.
func whole(name string, i rafs.Inode) source {
	s := source{path: name, inode: i}
	if i.IsRegular() {
		s.to = i.Size
	}
	return s
}

// outputSize adds up what is to be written, within [Session.MaxOutput].
type outputSize struct{ written, allowed int64 }

func (s *Session) outputSize() outputSize {
	return outputSize{allowed: cmp.Or(s.MaxOutput, DefaultMaxOutput)}
}

func (o *outputSize) add(name string, size int64) error {
	if size > o.allowed-o.written {
		return &rafs.LimitError{Bound: rafs.BoundOutput, What: fmt.Sprintf("write %s, of %d bytes", absolute(name), size), Allowed: o.allowed}
	}
	o.written += size
	return nil
}

// A batch is data that is loaded together.
type batch struct {
	parts   []part
	bytes   int64
	release func()
	err     error // ends the copying
}

// A part is some of a source's chunks. A source may have several, in its order.
type part struct {
	source source
	first  bool // begins its source
	last   bool // ends its source
	chunks []rafs.Chunk
}

var errStopped = errors.New("stopped")

// copyAll copies the sources that each yields, in their order: begin is called for
// each and gives the writer of its bytes. The data is loaded in few requests,
// ahead, and is verified.
func copyAll(ctx context.Context, view *nydusmount.View, each func(yield func(source) error) error, begin func(source) (io.Writer, error)) error {
	ctx, cancel := context.WithCancel(ctx)
	batches := make(chan batch)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(batches)
		p := planner{ctx: ctx, view: view, batches: batches}
		err := each(p.add)
		if err == nil {
			err = p.flush()
		}
		if err != nil && !errors.Is(err, errStopped) {
			p.send(batch{err: err, release: func() {}})
		}
	}()
	defer func() {
		cancel()
		for b := range batches {
			b.release()
		}
		<-done
	}()
	c := copier{ctx: ctx, view: view, begin: begin}
	for b := range batches {
		err := b.err
		for i := range b.parts {
			if err == nil {
				err = c.copy(&b.parts[i])
			}
		}
		b.release()
		if err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// A planner cuts sources into batches and loads these.
type planner struct {
	ctx     context.Context
	view    *nydusmount.View
	batches chan<- batch
	open    batch
}

func (p *planner) add(s source) error {
	chunks, err := s.inode.Chunks()
	if err != nil {
		return fmt.Errorf("%s: %w", absolute(s.path), err)
	}
	first, begin := true, 0
	for k := range chunks {
		c := &chunks[k]
		if c.FileOffset+int64(c.UncompressedSize) <= s.from {
			begin = k + 1
			continue
		}
		if c.FileOffset >= s.to {
			chunks = chunks[:k]
			break
		}
		if p.open.bytes += int64(c.UncompressedSize); p.open.bytes >= batchBytes && k+1 < len(chunks) {
			p.open.parts = append(p.open.parts, part{source: s, first: first, chunks: chunks[begin : k+1]})
			first, begin = false, k+1
			if err := p.flush(); err != nil {
				return err
			}
		}
	}
	p.open.parts = append(p.open.parts, part{source: s, first: first, last: true, chunks: chunks[begin:]})
	if p.open.bytes >= batchBytes || len(p.open.parts) >= batchParts {
		return p.flush()
	}
	return nil
}

// flush loads the open batch and hands it over.
func (p *planner) flush() error {
	b := p.open
	p.open = batch{}
	var chunks []rafs.Chunk
	for i := range b.parts {
		chunks = append(chunks, b.parts[i].chunks...)
	}
	b.release = func() {}
	if len(chunks) > 0 {
		b.release, b.err = p.view.Load(p.ctx, chunks)
	}
	if b.err != nil {
		b.err = p.blame(b.parts, b.err)
	}
	return p.send(b)
}

// blame says which file it is that could not be loaded.
func (p *planner) blame(parts []part, err error) error {
	for i := range parts {
		if len(parts) == 1 {
			return fmt.Errorf("%s: %w", absolute(parts[i].source.path), err)
		}
		for k := range parts[i].chunks {
			if p.ctx.Err() != nil {
				return context.Cause(p.ctx)
			}
			if _, failed := p.view.Data.ReadChunk(&parts[i].chunks[k]); failed != nil {
				return fmt.Errorf("%s: %w", absolute(parts[i].source.path), failed)
			}
		}
	}
	return err
}

func (p *planner) send(b batch) error {
	select {
	case p.batches <- b:
		return nil
	case <-p.ctx.Done():
		b.release()
		return errStopped
	}
}

// A copier writes parts that have been loaded.
type copier struct {
	ctx   context.Context
	view  *nydusmount.View
	begin func(source) (io.Writer, error)
	to    io.Writer
	at    int64 // in the source
}

func (c *copier) copy(p *part) error {
	if p.first {
		var err error
		if c.to, err = c.begin(p.source); err != nil {
			return err
		}
		c.at = p.source.from
	}
	for i := range p.chunks {
		chunk := &p.chunks[i]
		if err := c.zeros(chunk.FileOffset); err != nil {
			return err
		}
		data, err := c.view.Data.ReadChunk(chunk)
		if err != nil {
			return fmt.Errorf("%s: %w", absolute(p.source.path), err)
		}
		data = data[c.at-chunk.FileOffset : min(int64(len(data)), p.source.to-chunk.FileOffset)]
		if _, err := c.to.Write(data); err != nil {
			return err
		}
		c.at += int64(len(data))
	}
	if p.last {
		return c.zeros(p.source.to)
	}
	return nil
}

var zeroBlock [64 << 10]byte

// zeros writes what no chunk covers, up to an offset.
func (c *copier) zeros(end int64) error {
	for c.at < end {
		if c.ctx.Err() != nil {
			return context.Cause(c.ctx)
		}
		n, err := c.to.Write(zeroBlock[:min(int64(len(zeroBlock)), end-c.at)])
		if err != nil {
			return err
		}
		c.at += int64(n)
	}
	return nil
}
