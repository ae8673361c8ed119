package testimage

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// metaAlign is what the chunk table of a blob.meta file is padded to before its header, which has the same size.
const metaAlign = 4096

// packBootstrap writes the bootstrap layer as nydus-snapshotter's Merge does: a tar with the directory image, the
// merged bootstrap and, for v6, one <blob>.blob.meta for each blob that has chunks.
func packBootstrap(dir string, blobs []convertedBlob, fsVersion string) (*storedLayer, error) {
	boot, err := os.ReadFile(filepath.Join(dir, bootstrapFile))
	if err != nil {
		return nil, err
	}
	tarFile, gzFile := filepath.Join(dir, bootstrapTarFile), filepath.Join(dir, bootstrapGzFile)
	f, err := os.Create(tarFile)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	tw := tar.NewWriter(f)
	if err := tw.WriteHeader(&tar.Header{Name: "image", Mode: 0o755, Typeflag: tar.TypeDir}); err != nil {
		return nil, err
	}
	add := func(name string, data []byte) error {
		if err := tw.WriteHeader(&tar.Header{Name: "image/" + name, Mode: 0o444, Size: int64(len(data))}); err != nil {
			return err
		}
		_, err := tw.Write(data)
		return err
	}
	if err := add(bootstrapFile, boot); err != nil {
		return nil, err
	}
	added := map[string]bool{}
	for _, b := range blobs {
		if fsVersion != "6" || added[b.Digest.Hex] {
			continue
		}
		added[b.Digest.Hex] = true
		meta, err := blobMeta(filepath.Join(dir, blobDir, b.Digest.Hex))
		if err != nil {
			return nil, fmt.Errorf("blob.meta of blob %s: %w", b.Digest, err)
		}
		if len(meta) == 0 {
			continue
		}
		if err := add(b.Digest.Hex+".blob.meta", meta); err != nil {
			return nil, err
		}
	}
	if err := tw.Close(); err != nil {
		return nil, err
	}
	return gzipBootstrap(tarFile, gzFile)
}

// blobMeta is nydusd's cache file of a blob's chunk table: the table, zeros up to 4096, its header. A blob without
// data has none.
func blobMeta(blob string) ([]byte, error) {
	meta, err := readBlobEntry(blob, "blob.meta")
	if errors.Is(err, errNoEntry) {
		return nil, nil
	}
	if errors.Is(err, zstd.ErrMagicMismatch) {
		meta, err = nil, nil // encrypted: nydus-snapshotter v0.16.1 leaves the header, encrypted as well
	}
	if err != nil {
		return nil, err
	}
	header, err := readBlobEntry(blob, "blob.meta.header")
	if err != nil {
		return nil, err
	}
	meta = append(meta, make([]byte, -len(meta)&(metaAlign-1))...)
	return append(meta, header...), nil
}

func gzipBootstrap(tarFile, gzFile string) (*storedLayer, error) {
	in, err := os.Open(tarFile)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	out, err := os.Create(gzFile)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	gz := gzip.NewWriter(out)
	if _, err := io.Copy(gz, in); err != nil {
		return nil, err
	}
	if err := gz.Close(); err != nil {
		return nil, err
	}
	l := &storedLayer{Type: types.OCILayer}
	if l.Diff, _, err = hashFile(tarFile); err != nil {
		return nil, err
	}
	l.Hash, l.Length, err = hashFile(gzFile)
	return l, err
}
