package nydusimage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/blob"
)

// annotationRefName is where an OCI layout's index keeps an image's tag.
const annotationRefName = "org.opencontainers.image.ref.name"

// A layout is a [store]: an OCI image layout directory.
type layout struct{ root string }

// openLayout opens "dir", "dir:tag" or "dir@digest".
func openLayout(target string) (*layout, *document, error) {
	path, selector := target, ""
	if _, err := os.Stat(target); errors.Is(err, fs.ErrNotExist) {
		path, selector = splitPath(target)
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil, fmt.Errorf("open %s: no such folder: %w", path, ErrNotFound)
	case err != nil:
		return nil, nil, fmt.Errorf("open %s: %w", path, err)
	case !info.IsDir():
		return nil, nil, fmt.Errorf("open %s: archives are not read yet, unpack it and give the folder: %w", path, ErrInvalid)
	}
	l := &layout{root: path}
	raw, err := readLimited(filepath.Join(path, "index.json"), maxManifest)
	if err != nil {
		return nil, nil, fmt.Errorf("open the OCI layout %s: %w: %w", path, ErrInvalid, err)
	}
	index, err := v1.ParseIndexManifest(bytes.NewReader(raw))
	if err != nil {
		return nil, nil, fmt.Errorf("open the OCI layout %s: index.json: %w: %w", path, ErrInvalid, err)
	}
	d, err := selectEntry(index.Manifests, selector)
	if err != nil {
		return nil, nil, fmt.Errorf("open the OCI layout %s: %w", path, err)
	}
	doc, err := l.child(context.Background(), d)
	return l, doc, err
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
	return &document{Descriptor: d, raw: raw}, nil
}

// blob implements [store].
func (l *layout) blob(d v1.Descriptor) (blob.Source, error) {
	if d.Digest.Algorithm != "sha256" {
		return nil, fmt.Errorf("blob %s: only sha256 digests are read: %w", d.Digest, ErrInvalid)
	}
	return &fileSource{path: filepath.Join(l.root, "blobs", d.Digest.Algorithm, d.Digest.Hex), size: d.Size}, nil
}

// A fileSource is a [blob.Source] over a file.
type fileSource struct {
	path string
	size int64
}

func (f *fileSource) Size() int64 { return f.size }

func (f *fileSource) ReadRange(ctx context.Context, p []byte, off int64) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	file, err := os.Open(f.path)
	if err != nil {
		return fmt.Errorf("%w: %w", blob.ErrIncomplete, err)
	}
	defer file.Close()
	if _, err := file.ReadAt(p, off); err != nil && (len(p) != 0 || !errors.Is(err, io.EOF)) {
		return fmt.Errorf("read %d bytes at %d of %s: %w: %w", len(p), off, f.path, blob.ErrIncomplete, err)
	}
	return nil
}

func readLimited(path string, limit int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s is over the limit of %d bytes", path, limit)
	}
	return data, err
}
