package consistency

import (
	"context"
	"errors"
	"fmt"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/blob"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// pathBootstrap is the path under which the bootstrap rule reports what concerns
// no file.
const pathBootstrap = "bootstrap"

// maxBootstrapDifferences bounds the memory of what the bootstrap rule finds: a
// damaged image may have more faults than bytes. More are counted.
const maxBootstrapDifferences = 10_000

// A bootstrapCheck collects what the bootstrap rule finds.
type bootstrapCheck struct {
	images  Images
	ignores []Ignore
	tails   []layerTail
	result  Result
	more    int // notes that were not kept
	errs    []error
}

// checkBootstrap is [RuleBootstrap]: the merged bootstrap and those of the layers
// stand on their own; the tables by which their chunks are located (the
// bootstrap's, the blob's own and the bootstrap layer's copy of that) agree; and
// the layers' trees, applied in order, give the merged tree. It reads the tails
// of the data blobs, but no chunk.
func checkBootstrap(ctx context.Context, images Images, o Options, _ *Counts) Result {
	c := &bootstrapCheck{images: images, ignores: o.Ignore}
	c.run(ctx)
	if c.result.More > 0 {
		c.result.Notes = append(c.result.Notes, Note{pathBootstrap, fmt.Sprintf("%d more differences were found and are not listed", c.result.More)})
	}
	if c.more > 0 {
		c.result.Notes = append(c.result.Notes, Note{pathBootstrap, fmt.Sprintf("%d more notes are not listed", c.more)})
	}
	c.result.Err = errors.Join(c.errs...)
	return c.result
}

func (c *bootstrapCheck) run(ctx context.Context) {
	bootstrap, err := c.images.bootstrap(ctx)
	if err != nil {
		c.failed("bootstrap layer", err)
		return
	}
	sound := c.checkTree(ctx, "", bootstrap.Tree)
	if bootstrap.Backend != nil || len(c.images.Target.Layers) == 0 && len(bootstrap.Tree.Blobs()) > 0 {
		c.note("the data lies in a backend outside of the registry: blobs were not compared with the bootstrap")
		return
	}
	for i, b := range bootstrap.Tree.Blobs() {
		if err := blob.Supported(b); err != nil {
			c.failed(fmt.Sprintf("blobs[%d]", i), err)
		}
		// Of such a blob nydusd takes the ID from the name of the bootstrap's file.
		if b.Features&rafs.BlobInlinedMeta != 0 {
			c.differ(pathBootstrap, fmt.Sprintf("blobs[%d]", i), "a blob beside the merged bootstrap", "the one that holds this bootstrap")
		}
	}
	c.tails = c.images.tails(ctx, bootstrap)
	complete := sound
	for i := range c.tails {
		t := &c.tails[i]
		switch {
		case t.err != nil:
			c.failed(layerName(i), fmt.Errorf("blob %s: %w", c.images.Target.Layers[i].Digest, t.err))
			complete = false
		case t.tail.Tree == nil:
			c.note("%s: blob %s carries no tree of its layer, so that the layers were not compared with the image",
				layerName(i), c.images.Target.Layers[i].Digest)
			complete = false
		default:
			complete = c.checkTree(ctx, layerName(i)+": ", t.tail.Tree) && complete
		}
	}
	if c.ended(ctx) {
		return
	}
	c.checkTables(ctx, bootstrap)
	if c.ended(ctx) || !complete {
		return
	}
	merged, unvouched, err := c.images.tree(ctx, bootstrap)
	if err != nil {
		c.failed(pathBootstrap, err)
		return
	}
	if unvouched > 0 {
		c.note("the bootstrap has no table of its chunks, and the manifest does not vouch for the digests that %d of %d blobs carry: "+
			"the content was compared with digests that were not verified, unless the blobs were read whole (--data full)",
			unvouched, len(bootstrap.Tree.Blobs()))
	}
	c.checkLayers(ctx, merged)
}

// ended says whether ctx has, and notes that the rule was not completed.
func (c *bootstrapCheck) ended(ctx context.Context) bool {
	if ctx.Err() == nil {
		return false
	}
	c.errs = append(c.errs, context.Cause(ctx))
	return true
}

// layerName names a layer as the manifest does.
func layerName(i int) string { return fmt.Sprintf("layers[%d]", i) }

// checkTree checks that a tree stands on its own, and says whether it does: that is
// not known once ctx has ended.
func (c *bootstrapCheck) checkTree(ctx context.Context, prefix string, tree *rafs.Tree) bool {
	sound := true
	err := tree.Check(ctx, blob.Sum, func(p rafs.Problem) {
		if prefix != "" && isMended(tree, p) {
			c.note("%s%s is a known fault of nydus-image 2.2, which merging the layers mends", prefix, p)
			return
		}
		sound = false
		path := p.Path
		if path == "" {
			path = pathBootstrap
		}
		c.differ(path, prefix+p.Field, p.Want, p.Got)
	})
	return sound && err == nil
}

// isMended says whether a problem of a layer's tree is one that nydus-image 2.2
// makes of ordinary layers: where a tar names a directory after what is in it,
// directories get the number of another, and link counts with it. Merging counts
// anew.
func isMended(layer *rafs.Tree, p rafs.Problem) bool {
	if p.Field != "links" && p.Field != "inode number" {
		return false
	}
	i, err := layer.Lookup(p.Path)
	return err == nil && i.IsDir()
}

func (c *bootstrapCheck) differ(path, field, want, got string) {
	d := Difference{Path: path, Field: field, Want: want, Got: got}
	switch {
	case ignored(d, c.ignores):
		c.result.Ignored++ // here, so that they do not take the place of others
	case len(c.result.Differences) == maxBootstrapDifferences:
		c.result.More++
	default:
		c.result.Differences = append(c.result.Differences, d)
	}
}

func (c *bootstrapCheck) note(format string, args ...any) {
	if len(c.result.Notes) == maxBootstrapDifferences {
		c.more++
		return
	}
	c.result.Notes = append(c.result.Notes, Note{pathBootstrap, fmt.Sprintf(format, args...)})
}

// failed takes an error for a difference where it is the image's fault.
func (c *bootstrapCheck) failed(what string, err error) {
	if c.images.isFault(err) {
		c.differ(pathBootstrap, what, "readable", err.Error())
		return
	}
	c.errs = append(c.errs, fmt.Errorf("%s: %w", what, err))
}

// isFault says whether an error is a fault of the image: then reading it again,
// from elsewhere or with another program, would not help. That a registry does not
// give a blob, or not in its size, says nothing of the image: it fails.
func (i *Images) isFault(err error) bool {
	if i.Target.InRegistry() && (errors.Is(err, blob.ErrMissing) || errors.Is(err, blob.ErrSize)) {
		return false
	}
	for _, fault := range []error{rafs.ErrCorrupt, blob.ErrDigest, blob.ErrMissing, blob.ErrSize, nydusimage.ErrInvalid} {
		if errors.Is(err, fault) {
			return true
		}
	}
	return false
}
