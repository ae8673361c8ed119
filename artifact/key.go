package artifact

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash"
	"io"

	"github.com/aquasecurity/trivy/pkg/cache"
	"github.com/aquasecurity/trivy/pkg/fanal/artifact"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

const (
	// version changes whenever this package would make other results of the same
	// input, so that older entries of a cache are not taken.
	version = 9
	// keyPrefix keeps Trivy from taking our entries for its own.
	keyPrefix = "nydus:"
)

// imageKey is the cache key of what is found in the image's config.
func (a *Artifact) imageKey() (string, error) {
	id := keyPrefix + a.image.Manifest.Config.Digest.String()
	return cache.CalcKey(id, version, a.config.AnalyzerVersions(), nil, artifact.Option{})
}

// sliceKey is the cache key of a slice's result. It covers all that the result
// depends on: the blob, the files that are read, whether the image shows
// them and how far they are verified, what of the result belongs to the image,
// and, through Trivy's own function, analyzers and options.
//
// What the image's other slices say of package databases counts where the slice's
// own databases are not all shown: see [database]. All slices must be known.
func (a *Artifact) sliceKey(w *work) (string, error) {
	layer := &a.layers[w.layer]
	files, err := digestFiles(w.files)
	if err != nil {
		return "", err
	}
	databases := ""
	if !w.vouched() {
		if databases, err = a.digestDatabases(); err != nil {
			return "", err
		}
	}
	parts, err := json.Marshal(struct {
		Blob, DiffID, CreatedBy string
		Files, Databases        string
		Whiteouts               []string
		Base, LayerTree         bool
		TreeVouched             bool
		Size                    int64
		FileChecksum            bool
		Verified                nydusmount.Verification
		Source                  string
		Unconfined              bool
	}{
		Blob: layer.digest, DiffID: layer.diffID, CreatedBy: layer.createdBy,
		Files: files, Databases: databases, Whiteouts: w.whiteouts, Base: w.base, LayerTree: w.tree, TreeVouched: w.treeVouched, Size: w.size,
		FileChecksum: a.option.FileChecksum,
		Verified:     a.mount.Verified,
		Source:       a.source(),
		Unconfined:   a.our.Projects == nil,
	})
	if err != nil {
		return "", err
	}
	return cache.CalcKey(keyPrefix+string(parts), version, a.group.AnalyzerVersions(), a.handlers.Versions(), a.option)
}

// source tells apart places that could give other bytes for the same digests, since
// nobody compares them; "" where somebody does.
func (a *Artifact) source() string {
	switch a.mount.Verified {
	case nydusmount.NotVerified, nydusmount.NotVerifiedGzip:
		return a.our.Mount + " " + a.image.Origin()
	case nydusmount.NoDigests:
		return rand.Text() // what is there now may be replaced: nothing is taken for it later
	default:
		return ""
	}
}

// lasts says whether results may be taken for those of a later scan: something in
// the image must say which bytes they come from.
func (a *Artifact) lasts() bool { return a.mount.Verified != nydusmount.NoDigests }

// digestDatabases hashes what the image shows of package databases.
func (a *Artifact) digestDatabases() (string, error) {
	if a.databaseKey != "" {
		return a.databaseKey, nil
	}
	var files []wantedFile
	for _, w := range a.works {
		for n := range w.files {
			if f := &w.files[n]; f.want.database && f.seen == shown {
				files = append(files, *f)
			}
		}
	}
	var err error
	a.databaseKey, err = digestFiles(files)
	return a.databaseKey, err
}

// digestFiles hashes what a scan of the files depends on: paths, visibility,
// modes, sizes, the digests and places of their chunks, and how their blobs are
// decoded.
func digestFiles(files []wantedFile) (string, error) {
	h := sha256.New()
	put := numbersInto(h)
	blobs := make(map[*rafs.Blob][sha256.Size]byte)
	for i := range files {
		f := &files[i].file
		put(uint64(len(f.path)))
		_, _ = io.WriteString(h, f.path)
		put(uint64(f.seen))
		put(uint64(f.inode.Mode))
		put(uint64(f.inode.Size))
		chunks, err := f.inode.Chunks()
		if err != nil {
			return "", fmt.Errorf("%s: %w", f.path, err)
		}
		put(uint64(len(chunks)))
		for n := range chunks {
			c := &chunks[n]
			put(uint64(c.FileOffset))
			h.Write(c.Digest[:])
			// A digest is what an image says of a chunk: that it is true of another chunk
			// was not seen. So all counts by which the chunk is found and decoded.
			b := &f.view.Blobs()[c.Blob]
			decoded, ok := blobs[b]
			if !ok {
				decoded = digestBlob(f.view.BlobID(c.Blob), b)
				blobs[b] = decoded
			}
			h.Write(decoded[:])
			put(uint64(c.Index))
			put(uint64(c.Flags))
			put(c.CompressedOffset)
			put(uint64(c.CompressedSize))
			put(c.UncompressedOffset)
			put(uint64(c.UncompressedSize))
		}
	}
	return fmt.Sprintf("sha256:%x", h.Sum(nil)), nil
}

// digestBlob hashes which blob it is and how it is decoded; id is what the layer
// around the tree says where the tree itself does not know.
func digestBlob(id string, b *rafs.Blob) [sha256.Size]byte {
	h := sha256.New()
	_, _ = io.WriteString(h, id)
	put := numbersInto(h)
	put(uint64(b.Compressor))
	put(uint64(b.Digester))
	put(uint64(b.Features))
	put(uint64(b.Cipher))
	put(uint64(b.Meta.Compressor))
	put(b.Meta.Offset)
	put(b.Meta.CompressedSize)
	put(b.Meta.UncompressedSize)
	key, vector := b.Secret.Reveal()
	h.Write(key[:])
	h.Write(vector[:])
	return [sha256.Size]byte(h.Sum(nil))
}

// numbersInto returns a function that hashes a number.
func numbersInto(h hash.Hash) func(uint64) {
	var number [8]byte
	return func(n uint64) {
		binary.LittleEndian.PutUint64(number[:], n)
		h.Write(number[:])
	}
}
