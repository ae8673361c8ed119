package nydusimage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/blob"
)

const (
	// annotationRefName is where an OCI layout's index keeps an image's tag.
	annotationRefName = "org.opencontainers.image.ref.name"
	layoutIndex       = "index.json"
)

// A layout is a [store]: an OCI image layout.
type layout struct {
	files   layoutFiles
	path    string
	traffic *Traffic // may be nil
}

// origin implements [store].
func (l *layout) origin() string { return l.path }

// layoutFiles are the files of an OCI layout, in a folder or in an archive.
type layoutFiles interface {
	// locate finds a file by its slash-separated name.
	locate(name string) (extent, error)
}

// An extent is a part of a file on this machine.
type extent struct {
	path      string
	off, size int64
}

// openLayout opens "path", "path:tag" or "path@digest".
func openLayout(ctx context.Context, target string, traffic *Traffic) (*layout, *document, error) {
	path, selector := target, ""
	if _, err := os.Stat(target); errors.Is(err, fs.ErrNotExist) {
		path, selector = splitPath(target)
	}
	files, err := openLayoutFiles(path)
	if err != nil {
		return nil, nil, fmt.Errorf("open %s: %w", path, err)
	}
	l := &layout{files, path, traffic}
	raw, err := l.index(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("open the OCI layout %s: %w: %w", path, ErrInvalid, err)
	}
	index, err := parse(raw, v1.ParseIndexManifest)
	if err != nil {
		return nil, nil, fmt.Errorf("open the OCI layout %s: %s: %w", path, layoutIndex, err)
	}
	d, err := selectEntry(index.Manifests, selector)
	if err != nil {
		return nil, nil, fmt.Errorf("open the OCI layout %s: %w", path, err)
	}
	doc, err := l.child(ctx, d)
	return l, doc, err
}

func openLayoutFiles(path string) (layoutFiles, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("no such folder or file: %w", ErrNotFound)
	case err != nil:
		return nil, err
	case info.IsDir():
		return folder(path), nil
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("neither a folder nor a file: %w", ErrInvalid)
	}
	return openArchive(path)
}

func (l *layout) index(ctx context.Context) ([]byte, error) {
	where, err := l.files.locate(layoutIndex)
	if err != nil {
		return nil, err
	}
	if where.size > maxManifest {
		return nil, fmt.Errorf("%s of %d bytes is over the limit of %d", layoutIndex, where.size, maxManifest)
	}
	raw := make([]byte, where.size)
	return raw, (&fileSource{l.files, layoutIndex, where.size, l.traffic}).ReadRange(ctx, raw, 0)
}

// selectEntry finds the entry of a layout's index that ":tag" or "@digest"
// names; without either there must be one entry.
func selectEntry(entries []v1.Descriptor, selector string) (v1.Descriptor, error) {
	var tags []string
	for _, d := range entries {
		tag := d.Annotations[annotationRefName]
		if selector == "@"+d.Digest.String() || selector != "" && selector == ":"+tag || selector == "" && len(entries) == 1 {
			return d, nil
		}
		if tag != "" {
			tags = append(tags, tag)
		}
	}
	if selector == "" {
		return v1.Descriptor{}, fmt.Errorf("it holds %d images, choose one by :tag or @digest (tags: %s): %w", len(entries), strings.Join(tags, ", "), ErrNotFound)
	}
	return v1.Descriptor{}, fmt.Errorf("it holds no image %s (tags: %s): %w", selector, strings.Join(tags, ", "), ErrNotFound)
}

// child implements [store].
func (l *layout) child(ctx context.Context, d v1.Descriptor) (*document, error) {
	raw, err := readBlob(ctx, l, d, maxManifest)
	if err != nil {
		return nil, fmt.Errorf("read manifest %s: %w", d.Digest, err)
	}
	d.MediaType = mediaType(d.MediaType, raw)
	return &document{Descriptor: d, raw: raw}, nil
}

// blob implements [store]. That a blob is missing shows when it is read.
func (l *layout) blob(d v1.Descriptor) (blob.Source, error) {
	if d.Digest.Algorithm != "sha256" {
		return nil, fmt.Errorf("blob %s: only sha256 digests are read: %w", d.Digest, ErrInvalid)
	}
	return &fileSource{l.files, "blobs/sha256/" + d.Digest.Hex, d.Size, l.traffic}, nil
}
