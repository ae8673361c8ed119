package artifact

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/aquasecurity/trivy/pkg/fanal/analyzer"
	"github.com/aquasecurity/trivy/pkg/log"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

const (
	// loadedBytes bounds how much decompressed data is loaded for the files that
	// are analyzed at the same time.
	loadedBytes = 16 << 20
	// batchBytes is how much of it files that are analyzed together take: one batch
	// is fetched while others are analyzed.
	batchBytes = loadedBytes / 2
)

// An item is a file to be analyzed, and the chunks that are loaded for it.
type item struct {
	file   *file
	want   demand
	sink   *sink
	chunks []rafs.Chunk
	// later is how much more is expected to be loaded once the first chunk tells
	// what, in bytes.
	later int64
}

// loaded chooses the chunks that analyzers are sure to read, or likely; others
// are fetched when they are asked for.
func (i *item) loaded() error {
	chunks, err := i.file.inode.Chunks()
	if err != nil {
		return fmt.Errorf("%s: %w", i.file.path, err)
	}
	switch {
	case len(chunks) <= 1:
	case i.want.whole || i.want.database || len(i.want.post) > 0:
		// The rest of a very large file is fetched as it is read.
		var size int64
		for n := range chunks {
			if size += int64(chunks[n].UncompressedSize); size > loadedBytes {
				chunks = chunks[:n]
				break
			}
		}
	case i.want.head:
		i.later = min(i.file.inode.Size-int64(chunks[0].UncompressedSize), dataStep)
		chunks = slices.Clone(chunks[:1])
	default:
		// The secret scanner looks at the first bytes and leaves binary files.
		chunks = slices.Clone(chunks[:1])
	}
	i.chunks = chunks
	return nil
}

// A batch is a group of files whose data lies together and that are analyzed
// together, all of one view.
type batch struct {
	view  *nydusmount.View
	items []item
	size  int64 // bytes to be loaded
	// done says that what was expected to be read for it is no longer.
	done func()
}

// expect says what will be read for the batch: its chunks, and those of executables that
// may follow.
func (b *batch) expect() {
	var chunks []rafs.Chunk
	for _, i := range b.items {
		chunks = append(chunks, i.chunks...)
		if i.later == 0 {
			continue
		}
		if all, err := i.file.inode.Chunks(); err == nil {
			chunks = append(chunks, all[1:]...)
		}
	}
	b.done = b.view.Expect(chunks)
}

// weight is what the batch takes of loadedBytes.
func (b *batch) weight() int64 { return min(b.size, loadedBytes) }

// batches orders the files as their data lies in the blobs, and groups them.
func batches(items []item) ([]batch, error) {
	for n := range items {
		if err := items[n].loaded(); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(items, func(a, b item) int {
		return cmp.Or(
			cmp.Compare(place(&a).blob, place(&b).blob),
			cmp.Compare(place(&a).offset, place(&b).offset),
		)
	})
	open := make(map[*nydusmount.View]*batch)
	var done []batch
	for _, i := range items {
		view := i.file.view
		b := open[view]
		if b == nil {
			b = &batch{view: view}
			open[view] = b
		}
		b.items = append(b.items, i)
		b.size += i.later + bytesOf(i.chunks)
		if b.size >= batchBytes {
			done = append(done, *b)
			delete(open, view)
		}
	}
	for _, b := range open {
		done = append(done, *b)
	}
	return done, nil
}

// bytesOf is how much chunks take, decompressed.
func bytesOf(chunks []rafs.Chunk) (size int64) {
	for n := range chunks {
		size += int64(chunks[n].UncompressedSize)
	}
	return size
}

// A dataPlace orders data as it is stored. The offset is that in the decompressed
// blob: it is of the same order, and known of all chunks.
type dataPlace struct {
	blob   string
	offset uint64
}

func place(i *item) dataPlace {
	if len(i.chunks) == 0 {
		return dataPlace{}
	}
	first := &i.chunks[0]
	return dataPlace{i.file.view.BlobID(first.Blob), first.UncompressedOffset}
}

// analyze runs the analyzers on items, which wait waits for. What is begun
// earlier is loaded earlier. ctx ends what is under way.
func (a *Artifact) analyze(ctx context.Context, items []item) (wait func() error) {
	list, err := batches(items)
	if err != nil {
		return func() error { return err }
	}
	for n := range list {
		list[n].expect()
	}
	a.progress.start(len(items))
	group, ctx := errgroup.WithContext(ctx)
	// The first batch takes its share before anything that is begun later can.
	first := len(list) > 0 && a.loading.TryAcquire(list[0].weight())
	group.Go(func() error {
		for n, b := range list {
			if n > 0 || !first {
				if err := a.loading.Acquire(ctx, b.weight()); err != nil {
					return context.Cause(ctx)
				}
			}
			group.Go(func() error {
				defer a.loading.Release(b.weight())
				defer b.done()
				return a.analyzeBatch(ctx, b)
			})
		}
		return nil
	})
	return group.Wait
}

func (a *Artifact) analyzeBatch(ctx context.Context, b batch) error {
	release, err := a.load(ctx, b)
	defer release()
	if err != nil {
		return err
	}
	defer a.analyzing.Start()()
	ready, more := executables(b)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return a.analyzeItems(ctx, ready) })
	group.Go(func() error {
		for _, b := range more {
			release, err := a.load(ctx, b)
			if err == nil {
				err = a.analyzeItems(ctx, b.items)
			}
			release()
			if err != nil {
				return err
			}
		}
		return nil
	})
	return group.Wait()
}

// load gets the chunks of a batch and holds them until release is called; release
// must be called also after an error.
func (a *Artifact) load(ctx context.Context, b batch) (release func(), err error) {
	var chunks []rafs.Chunk
	for _, i := range b.items {
		chunks = append(chunks, i.chunks...)
	}
	if release, err = b.view.Load(ctx, chunks); err != nil {
		if ctx.Err() != nil {
			return release, context.Cause(ctx)
		}
		a.recordLoad(b)
		return release, cmp.Or(a.failures.err(), err)
	}
	return release, nil
}

// analyzeItems runs the analyzers on files and waits for them.
func (a *Artifact) analyzeItems(ctx context.Context, items []item) error {
	group, ctx := errgroup.WithContext(ctx)
	for n := range items {
		if err := a.analyzeFile(ctx, group, &items[n]); err != nil {
			// A failed analyzer cancels the context, and is the real cause.
			if first := group.Wait(); first != nil {
				return first
			}
			return err
		}
		a.progress.fileDone()
	}
	return group.Wait()
}

// recordLoad finds out which files a failed load concerns. The chunks are still
// held, so that nothing is fetched again. What was only given up because another
// request failed is not a cause.
func (a *Artifact) recordLoad(b batch) {
	if b.view.Data == nil {
		return
	}
	for _, i := range b.items {
		for n := range i.chunks {
			if _, err := b.view.Data.ReadChunk(&i.chunks[n]); err != nil && !errors.Is(err, context.Canceled) {
				a.failures.add(i.file.path, err)
				break
			}
		}
	}
}

func (a *Artifact) analyzeFile(ctx context.Context, group *errgroup.Group, i *item) error {
	f, s := i.file, i.sink
	a.log.Debug("Analyzing", log.FilePath(f.path), log.Int64("size", f.inode.Size), log.Int("chunks", len(i.chunks)))
	info := f.inode.FileInfo(f.path)
	opener := a.failures.opener(f)
	if i.want.single {
		if err := a.group.AnalyzeFile(ctx, group, a.limit, s.result, "", f.path, info, opener, s.disabled, a.options()); err != nil {
			return fmt.Errorf("analyze %s: %w", f.path, err)
		}
	}
	if len(i.want.post) == 0 {
		return nil
	}
	if err := s.put(f, i.want.post, opener); err != nil {
		var limit *rafs.LimitError
		if errors.As(err, &limit) {
			a.failures.add(f.path, err)
		}
		return fmt.Errorf("copy %s for the analyzers that read files together: %w", f.path, err)
	}
	return nil
}

func (a *Artifact) options() analyzer.AnalysisOptions {
	return analyzer.AnalysisOptions{Offline: a.option.Offline, FileChecksum: a.option.FileChecksum, MavenMirrors: a.option.MavenMirrors}
}
