package artifact

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aquasecurity/trivy/pkg/cache"
	"github.com/aquasecurity/trivy/pkg/fanal/analyzer"
	"github.com/aquasecurity/trivy/pkg/fanal/artifact"
	ftypes "github.com/aquasecurity/trivy/pkg/fanal/types"
	"github.com/aquasecurity/trivy/pkg/misconf"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// TestSixteenAtOnce scans sixteen images at the same time in one process, with one
// cache of results and one of metadata: each result is that of a scan alone.
func TestSixteenAtOnce(t *testing.T) {
	dir := t.TempDir()
	images := make(map[string]any)
	for _, spec := range []testimage.Spec{testimage.Tiny(t), testimage.SecretCmd(t)} {
		oci := testimage.BuildOCI(t, spec)
		for _, version := range []string{"5", "6"} {
			images[spec.Name+version] = testimage.Convert(t, oci, testimage.ConvertOptions{FSVersion: version})
		}
	}
	testimage.WriteLayout(t, dir, images)
	analyzers := newAnalyzers(t)
	want := make(map[string][]ftypes.BlobInfo)
	for name := range images {
		c, metadata := newCaches(t)
		found, err := inspectImage(t, analyzers, dir+":"+name, c, metadata, Options{})
		require.NoError(t, err)
		want[name] = found
	}

	c, metadata := newCaches(t)
	var group sync.WaitGroup
	for range 16 / len(images) {
		for name := range images {
			group.Go(func() {
				got, err := inspectImage(t, analyzers, dir+":"+name, c, metadata, Options{})
				if assert.NoError(t, err, name) {
					assert.Equal(t, want[name], got, name)
				}
			})
		}
	}
	group.Wait()
}

// newAnalyzers makes analyzers that need no checks and no server. Trivy's are the
// process's: to make them while others analyze is a race.
func newAnalyzers(t *testing.T) *Analyzers {
	t.Helper()
	analyzers, err := NewAnalyzers(artifact.Option{
		Parallel:          5,
		DisabledAnalyzers: analyzer.TypeConfigFiles,
		DisabledHandlers:  []ftypes.HandlerType{ftypes.UnpackagedPostHandler}, // it asks a server
	}, func() (misconf.ScannerOption, error) { return misconf.ScannerOption{}, nil })
	require.NoError(t, err)
	analyzers.checks.need()
	require.NoError(t, analyzers.complete())
	return analyzers
}

func newCaches(t *testing.T) (cache.Cache, *nydusimage.MetadataCache) {
	t.Helper()
	dir := t.TempDir()
	c, closeCache, err := OpenCache(cache.Options{Backend: string(cache.TypeFS), CacheDir: dir})
	require.NoError(t, err)
	t.Cleanup(closeCache)
	return c, nydusimage.NewMetadataCache(dir + "/nydus")
}

// inspectImage scans an image and returns the results of its layers.
func inspectImage(t *testing.T, analyzers *Analyzers, target string, c cache.Cache, metadata *nydusimage.MetadataCache, our Options) ([]ftypes.BlobInfo, error) {
	image, err := nydusimage.Open(t.Context(), target, nydusimage.Options{Metadata: metadata})
	if err != nil {
		return nil, err
	}
	defer image.Close()
	open := func(ctx context.Context, ahead func(*rafs.Tree) []rafs.Chunk) (*nydusmount.Mount, error) {
		return nydusmount.Native(ctx, image, nydusmount.Ahead(ahead))
	}
	our.Name, our.Mount = target, "native"
	reference, err := New(image, open, c, analyzers, our).Inspect(t.Context())
	if err != nil {
		return nil, err
	}
	var found []ftypes.BlobInfo
	for _, id := range reference.BlobIDs {
		info, err := c.GetBlob(t.Context(), id)
		if err != nil {
			return nil, fmt.Errorf("result %s: %w", id, err)
		}
		found = append(found, info)
	}
	return found, nil
}
