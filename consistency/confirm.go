package consistency

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/blob"
)

// confirm looks again at differences that rest on the tails of blobs in a registry:
// no digest vouches for a part of a blob, and a registry, or what lies between, can
// give other bytes than it has. The blobs are read whole and compared with their
// digests, and the rules run again, on tails that are read anew, which images has
// from then on. Where a registry does not give the blobs that the manifest names,
// nothing is known of the image: the rule is not completed.
func (r *Report) confirm(ctx context.Context, images *Images, o Options) {
	var doubtful []*Result
	for i := range r.Results {
		if restsOnTails(&r.Results[i]) {
			doubtful = append(doubtful, &r.Results[i])
		}
	}
	if len(doubtful) == 0 || !images.Target.InRegistry() {
		return
	}
	if err := hashBlobs(ctx, *images); err != nil {
		for _, result := range doubtful {
			result.Err = errors.Join(result.Err, err)
		}
		return
	}
	// What was kept is not to be believed either.
	kept := images.Target.Metadata
	images.Target.Metadata = nil
	defer func() { images.Target.Metadata = kept }()
	images.shareTails(ctx)
	again := &Report{}
	again.run(ctx, *images, o, runner{RuleManifest, checkManifest}, runner{RuleBootstrap, checkBootstrap})
	for i := range r.Results {
		for _, result := range again.Results {
			if r.Results[i].Rule == result.Rule {
				result.Elapsed += r.Results[i].Elapsed
				r.Results[i] = result
			}
		}
	}
}

// restsOnTails says whether a result has differences that tails of blobs show.
func restsOnTails(r *Result) bool {
	for _, d := range r.Differences {
		if r.Rule == RuleBootstrap || r.Rule == RuleManifest && strings.Contains(d.Field, "blob_toc") {
			return true
		}
	}
	return false
}

// hashBlobs compares all data blobs with the manifest's digests.
func hashBlobs(ctx context.Context, images Images) error {
	done := make(map[v1.Hash]bool)
	for i := range images.Target.Layers {
		layer := &images.Target.Layers[i]
		if done[layer.Digest] {
			continue
		}
		done[layer.Digest] = true
		if err := blob.Prove(ctx, layer.Source, layer.Digest.String(), 0, io.Discard); err != nil {
			return fmt.Errorf("%s, read again for the differences in its tail: %w", blobPath(layer.Digest), err)
		}
	}
	return nil
}
