package testimage

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// tocName is the tar name of a data blob's table of contents.
const tocName = "rafs.blob.toc"

const tarHeaderSize = 512

// Compression of a table-of-contents entry.
const (
	tocNone = 1
	tocZstd = 2
)

// errNoEntry says that a blob has no entry of the asked name.
var errNoEntry = errors.New("no such entry in the blob")

// readBlobEntry reads one named part ("image.boot", "blob.meta", …) of a data blob: through the table of contents
// where there is one (v6), else by the tar headers, which follow their data (v5).
func readBlobEntry(blob, name string) ([]byte, error) {
	f, size, err := openBlob(blob)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h, data, err := trailingEntry(f, size)
	if err != nil {
		return nil, fmt.Errorf("read the tail of blob %s: %w", blob, err)
	}
	if h.Name == tocName {
		return tocEntry(f, data, name)
	}
	for end := size; end > 0; {
		if h, data, err = trailingEntry(f, end); err != nil {
			break
		}
		if h.Name == name {
			return io.ReadAll(data)
		}
		end -= data.Size() + 512
	}
	return nil, fmt.Errorf("%q in blob %s: %w", name, blob, errNoEntry)
}

func openBlob(name string) (f *os.File, size int64, err error) {
	if f, err = os.Open(name); err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}

// readTOC returns a data blob's table of contents and, behind it, its tar header.
func readTOC(blob string) ([]byte, error) {
	f, size, err := openBlob(blob)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h, _, err := trailingEntry(f, size)
	if err == nil && h.Name != tocName {
		err = fmt.Errorf("it ends with %q: %w", h.Name, errNoEntry)
	}
	if err != nil {
		return nil, fmt.Errorf("table of contents of blob %s: %w", blob, err)
	}
	return io.ReadAll(io.NewSectionReader(f, size-tarHeaderSize-h.Size, h.Size+tarHeaderSize))
}

// trailingEntry reads the tar header in the 512 bytes before end and the data before it.
func trailingEntry(r io.ReaderAt, end int64) (*tar.Header, *io.SectionReader, error) {
	h, err := tar.NewReader(io.NewSectionReader(r, end-512, 512)).Next()
	if err != nil {
		return nil, nil, fmt.Errorf("tar header at %d: %w", end-512, err)
	}
	start := end - 512 - h.Size
	if start < 0 {
		return nil, nil, fmt.Errorf("tar header at %d: %q of %d bytes does not fit", end-512, h.Name, h.Size)
	}
	return h, io.NewSectionReader(r, start, h.Size), nil
}

// tocEntry reads an entry through the table of contents; its records are 128 bytes (storage/src/meta/toc.rs).
func tocEntry(r io.ReaderAt, toc io.Reader, name string) ([]byte, error) {
	record := make([]byte, 128)
	for {
		if _, err := io.ReadFull(toc, record); err == io.EOF {
			return nil, fmt.Errorf("%q: %w", name, errNoEntry)
		} else if err != nil {
			return nil, fmt.Errorf("read the table of contents: %w", err)
		}
		if string(bytes.TrimRight(record[8:24], "\x00")) != name {
			continue
		}
		u64 := func(at int) int64 { return int64(binary.LittleEndian.Uint64(record[at:])) }
		raw := make([]byte, u64(64))
		if _, err := r.ReadAt(raw, u64(56)); err != nil {
			return nil, fmt.Errorf("read %q: %w", name, err)
		}
		switch flags := binary.LittleEndian.Uint32(record); flags {
		case tocNone:
			return raw, nil
		case tocZstd:
			return unzstd(raw)
		default:
			return nil, fmt.Errorf("%q has flags %#x, expected %d (none) or %d (zstd)", name, flags, tocNone, tocZstd)
		}
	}
}

func unzstd(raw []byte) ([]byte, error) {
	d, err := zstd.NewReader(strings.NewReader(string(raw)))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return io.ReadAll(d)
}

// AlterLayerBootstrap changes the bootstrap that a v6 blob carries of its layer, in place, and makes the table of contents
// agree with it. The blob keeps its size, and only its digest is another.
func AlterLayerBootstrap(t testing.TB, blob []byte, alter func(boot []byte)) {
	t.Helper()
	if err := alterLayerBootstrap(blob, alter); err != nil {
		t.Fatalf("alter the bootstrap of a layer: %v", err)
	}
}

func alterLayerBootstrap(blob []byte, alter func(boot []byte)) error {
	h, data, err := trailingEntry(bytes.NewReader(blob), int64(len(blob)))
	if err == nil && h.Name != tocName {
		err = fmt.Errorf("it ends with %q: %w", h.Name, errNoEntry)
	}
	if err != nil {
		return err
	}
	toc := blob[int64(len(blob))-tarHeaderSize-data.Size():][:data.Size()]
	boot, err := tocEntry(bytes.NewReader(blob), bytes.NewReader(toc), bootstrapFile)
	if err != nil {
		return err
	}
	alter(boot)
	record := toc[bytes.Index(toc, []byte(bootstrapFile))-8:]
	le := binary.LittleEndian
	// It is the last part but for the table, which finds it: its own tar header is not needed.
	stored := blob[le.Uint64(record[56:]) : len(blob)-tarHeaderSize-len(toc)]
	packed := boot
	if le.Uint32(record) == tocZstd {
		w, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression))
		if err != nil {
			return err
		}
		packed = w.EncodeAll(boot, nil)
	}
	if len(packed) > len(stored) {
		return fmt.Errorf("it takes %d bytes, and there is room for %d", len(packed), len(stored))
	}
	copy(stored, packed)
	le.PutUint64(record[64:], uint64(len(packed)))
	digest := sha256.Sum256(boot)
	copy(record[24:], digest[:])
	return nil
}
