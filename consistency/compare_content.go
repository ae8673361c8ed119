package consistency

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// compareFiles compares the content of files of the same size: by sums where
// both have them, else it reads what has none, several files at once.
func (c *comparison) compareFiles(ctx context.Context, files []pair) error {
	var unread []pair
	for _, p := range files {
		c.files++
		c.fileBytes += p.want.Size
		if p.want.Size == 0 {
			continue
		}
		done, err := c.compareSums(p)
		if err != nil {
			return err
		}
		if !done {
			unread = append(unread, p)
		}
	}
	hashers := sync.Pool{New: func() any { return newHasher() }}
	var mu sync.Mutex // of c
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for _, p := range unread {
		group.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			h := hashers.Get().(*hasher)
			defer hashers.Put(h)
			d, err := h.compare(ctx, p)
			if d != nil {
				mu.Lock()
				defer mu.Unlock()
				c.found(*d)
			}
			return err
		})
	}
	return group.Wait()
}

// compareSums compares what is known of both files' content without reading it.
// done is false where that is not enough.
func (c *comparison) compareSums(p pair) (done bool, err error) {
	want := p.want.content
	if want == nil || p.got.metadata == nil {
		return false, nil
	}
	got, err := p.got.metadata.sums(want.cut)
	if err != nil {
		return false, fmt.Errorf("%s: %w", p.got.Path, err)
	}
	if got == nil || got.cut != want.cut {
		return false, nil
	}
	if d := p.differentSums(want, got); d != nil {
		c.found(*d)
	}
	return true, nil
}

// differentSums compares sums of the same cut.
func (p pair) differentSums(want, got *sums) *Difference {
	first, count := -1, 0
	for k := range want.values {
		if want.values[k] != got.values[k] {
			if first < 0 {
				first = k
			}
			count++
		}
	}
	if first < 0 {
		return nil
	}
	var begin int64
	if first > 0 {
		begin = want.cut.piece(int64(first-1), p.want.Size).end
	}
	detail := fmt.Sprintf("from byte %d on, in chunk %d of %d", begin, first+1, len(want.values))
	if count > 1 {
		detail += fmt.Sprintf("; %d chunks differ", count)
	}
	of := want.cut.piece(int64(first), p.want.Size)
	return p.content(of.spell(want.values[first]), of.spell(got.values[first]), detail)
}

func (p pair) content(want, got, detail string) *Difference {
	return &Difference{
		Path: p.want.Path, Field: "content", Want: want, Got: got, Detail: detail, Source: p.want, Target: p.got,
	}
}

// spell writes what a piece hashes to.
func (p piece) spell(value [32]byte) string {
	switch {
	case p.hole && value == [32]byte{}:
		return "zeros"
	case p.hole:
		return "data"
	case p.digester == rafs.SHA256:
		return fmt.Sprintf("sha256:%x", value)
	}
	return fmt.Sprintf("blake3:%x", value)
}

// compare reads what has to be read of two files of the same size. nil means
// that they are equal.
func (h *hasher) compare(ctx context.Context, p pair) (*Difference, error) {
	if p.got.Open == nil || p.want.Open == nil && p.want.content == nil {
		return nil, fmt.Errorf("%s: its content is not known", p.want.Path)
	}
	file, err := p.got.Open()
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", p.got.Path, err)
	}
	defer file.Close()
	got := &contextReader{ctx, file}
	if want := p.want.content; want != nil {
		values, err := h.sum(got, p.got.Size, want.cut)
		if err == nil {
			err = expectEnd(got)
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", p.got.Path, err)
		}
		return p.differentSums(want, values), nil
	}
	want, err := p.want.Open()
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", p.want.Path, err)
	}
	defer want.Close()
	return p.compareBytes(want, got, h.buffer)
}

// compareBytes reads both files to their end.
func (p pair) compareBytes(want, got io.Reader, buffer []byte) (*Difference, error) {
	half := len(buffer) / 2
	for off := int64(0); off < p.want.Size; {
		n := min(int64(half), p.want.Size-off)
		w, g := buffer[:n], buffer[half:][:n]
		if err := readFull(want, w); err != nil {
			return nil, fmt.Errorf("read %s: %w", p.want.Path, err)
		}
		if err := readFull(got, g); err != nil {
			return nil, fmt.Errorf("read %s: %w", p.got.Path, err)
		}
		if !bytes.Equal(w, g) {
			k := 0
			for w[k] == g[k] {
				k++
			}
			shown := min(len(w), k+16)
			return p.content(fmt.Sprintf("%x", w[k:shown]), fmt.Sprintf("%x", g[k:shown]),
				fmt.Sprintf("from byte %d on", off+int64(k))), nil
		}
		off += n
	}
	if err := errors.Join(expectEnd(want), expectEnd(got)); err != nil {
		return nil, fmt.Errorf("read %s: %w", p.want.Path, err)
	}
	return nil, nil
}

func readFull(r io.Reader, b []byte) error {
	_, err := io.ReadFull(r, b)
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// expectEnd says whether a file goes on behind its size.
func expectEnd(r io.Reader) error {
	n, err := io.ReadFull(r, make([]byte, 1))
	switch {
	case n > 0:
		return errors.New("it is longer than its size")
	case err == io.EOF:
		return nil
	}
	return err
}
