package consistency

import (
	"context"
	"fmt"
	"sync"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// checkFilesystem compares the filesystem that the layers of the OCI image give
// with that of the Nydus image.
func checkFilesystem(ctx context.Context, images Images, o Options, counts *Counts) Result {
	var result Result
	result.Err = compareImages(ctx, &images, o.Data, counts, &result)
	return result
}

func compareImages(ctx context.Context, images *Images, depth Depth, counts *Counts, result *Result) error {
	bootstrap, err := images.bootstrap(ctx)
	if err != nil {
		return fmt.Errorf("Nydus image: %w", err)
	}
	served := images.Mounted != nil
	tree, unvouched := bootstrap.Tree, 0
	if !served && depth != DepthNone {
		if tree, unvouched, err = images.tree(ctx, bootstrap); err != nil {
			return fmt.Errorf("Nydus image: %w", err)
		}
	}
	plan, err := newPlan(ctx, tree, depth, served)
	if err != nil {
		return fmt.Errorf("Nydus image: %w", err)
	}
	source, read, err := readOCI(ctx, images.Source, plan)
	counts.LayerBytes += read
	if err != nil {
		return fmt.Errorf("OCI image: %w", err)
	}
	data := &lazyData{ctx: ctx, image: images.Target}
	target := images.Mounted
	if !served {
		target = Tree(tree, data)
	}
	c := comparison{compareContent: depth != DepthNone}
	err = c.run(ctx, source, target)
	counts.Paths += c.paths
	counts.Files += c.files
	counts.FileBytes += c.fileBytes
	counts.BlobBytes += data.bytes()
	known := knownLosses{source: source, tree: bootstrap.Tree, served: served}
	result.Differences, result.Notes = known.sift(c.differences)
	if err == nil && unvouched > 0 && depth != DepthFull {
		err = fmt.Errorf("the content was compared with digests for which the manifest does not vouch: %w", nydusmount.ErrUnvouched)
	}
	return err
}

// lazyData gives the chunks of a Nydus image, which is opened when the first is
// asked for: commonly its metadata tells enough.
type lazyData struct {
	ctx   context.Context
	image *nydusimage.Image

	once  sync.Once
	mount *nydusmount.Mount
	err   error
}

// ReadChunk implements [rafs.ChunkReader].
func (d *lazyData) ReadChunk(c *rafs.Chunk) ([]byte, error) {
	d.once.Do(func() {
		// The rules say of an image what was not verified, and verify it with --data full.
		d.mount, d.err = nydusmount.Native(d.ctx, d.image, nydusmount.AllowUnverified(true))
	})
	if d.err != nil {
		return nil, d.err
	}
	return d.mount.Merged.Data.ReadChunk(c)
}

// bytes returns how many were read, as stored. No ReadChunk may be under way.
func (d *lazyData) bytes() int64 {
	if d.mount == nil {
		return 0
	}
	return d.mount.Stats().Bytes
}
