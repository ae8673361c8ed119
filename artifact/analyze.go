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
	// batchBytes is how much decompressed data is loaded for the files that are
	// analyzed together. It bounds memory, with parallelBatches.
	batchBytes = 16 << 20
	// parallelBatches lets one batch be fetched while others are analyzed.
	parallelBatches = 3
)

// A sink collects what analyzers find in the files of one slice: in the shown
// ones, or in the hidden ones, which have a sink of their own because less of
// what they tell is believed.
type sink struct {
	result    *analyzer.AnalysisResult
	composite *analyzer.CompositeFS
	disabled  []analyzer.Type
}

func newSink(group analyzer.AnalyzerGroup, disabled []analyzer.Type) (*sink, error) {
	composite, err := group.PostAnalyzerFS()
	if err != nil {
		return nil, fmt.Errorf("make a folder for files that analyzers read together: %w", err)
	}
	return &sink{result: analyzer.NewAnalysisResult(), composite: composite, disabled: disabled}, nil
}

// An item is a file to be analyzed, and the chunks that are loaded for it.
type item struct {
	file   *file
	want   demand
	sink   *sink
	chunks []rafs.Chunk
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
			if size += int64(chunks[n].UncompressedSize); size > batchBytes {
				chunks = chunks[:n]
				break
			}
		}
	case i.want.head:
		// An executable's header is at its beginning, its table of sections
		// mostly at its end.
		chunks = []rafs.Chunk{chunks[0], chunks[len(chunks)-1]}
	default:
		// The secret scanner looks at the first bytes and leaves binary files.
		chunks = chunks[:1]
	}
	i.chunks = chunks
	return nil
}

// A batch is a group of files whose data lies together and that are analyzed
// together, all of one view.
type batch struct {
	view  *nydusmount.View
	items []item
}

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
	size := make(map[*nydusmount.View]int64)
	var done []batch
	for _, i := range items {
		view := i.file.view
		b := open[view]
		if b == nil {
			b = &batch{view: view}
			open[view] = b
		}
		b.items = append(b.items, i)
		for n := range i.chunks {
			size[view] += int64(i.chunks[n].UncompressedSize)
		}
		if size[view] >= batchBytes {
			done = append(done, *b)
			delete(open, view)
			delete(size, view)
		}
	}
	for _, b := range open {
		done = append(done, *b)
	}
	return done, nil
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

// analyze runs the analyzers on the items and waits for them.
func (a *Artifact) analyze(ctx context.Context, items []item) error {
	list, err := batches(items)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelBatches)
	for _, b := range list {
		group.Go(func() error { return a.analyzeBatch(ctx, b) })
	}
	return group.Wait()
}

func (a *Artifact) analyzeBatch(ctx context.Context, b batch) error {
	var chunks []rafs.Chunk
	for _, i := range b.items {
		chunks = append(chunks, i.chunks...)
	}
	release, err := b.view.Load(ctx, chunks)
	defer release()
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		a.recordLoad(b)
		return cmp.Or(a.failures.err(), err)
	}
	group, groupCtx := errgroup.WithContext(ctx)
	for n := range b.items {
		if err := a.analyzeFile(groupCtx, group, &b.items[n]); err != nil {
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
	if err := a.image.Limits().Temp.Take("copies of files for the analyzers that read files together", uint64(f.inode.Size)); err != nil {
		a.failures.add(f.path, err)
		return err
	}
	copied, err := s.composite.CopyFileToTemp(opener, info)
	if err != nil {
		return fmt.Errorf("copy %s for the analyzers that read files together: %w", f.path, err)
	}
	if err := s.composite.CreateLink(i.want.post, "", f.path, copied); err != nil {
		return fmt.Errorf("copy %s for the analyzers that read files together: %w", f.path, err)
	}
	return nil
}

func (a *Artifact) options() analyzer.AnalysisOptions {
	return analyzer.AnalysisOptions{Offline: a.option.Offline, FileChecksum: a.option.FileChecksum, MavenMirrors: a.option.MavenMirrors}
}
