package blob

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// ErrNoTOC says that a blob's tail holds no table of contents and no bootstrap
// of its layer: other converters than today's made it.
var ErrNoTOC = errors.New("the blob holds no bootstrap of its layer")

// The parts of a blob, by the names that its table of contents gives them
// (storage/src/meta/toc.rs of the Nydus project).
const (
	PartBootstrap = "image.boot"
	partTOC       = "rafs.blob.toc"
	partDigests   = "blob.digest"
	partMeta      = "blob.meta"
)

const (
	tarHeaderSize = 512
	tocEntrySize  = 128
	// maxTOCEntries is far above the six names that the format knows.
	maxTOCEntries = 64
	// MaxBootstrap bounds the memory that one part of a blob's tail may take: what
	// nydusd reads of a bootstrap. Users of this package have lower bounds, see
	// [rafs.BoundMetadata].
	MaxBootstrap = rafs.MaxBootstrapSize
)

// bootstrapLimit is MaxBootstrap; fuzzing lowers it.
var bootstrapLimit int64 = MaxBootstrap

// A TOC is a blob's table of contents. It lies in the blob's tail: a 512-byte
// tar header follows each part, so it is found from the end.
type TOC struct {
	// Parts are in the order of the table.
	Parts []Part
	// Digest is the SHA-256 of the table's bytes and of its tar header's, as a
	// bootstrap's blob table may give it; zero where there is no table.
	Digest [32]byte
	Size   int64

	bare [32]byte // SHA-256 of the table without the tar header
}

// Is says whether a digest in a bootstrap's blob table is that of the table of
// contents: [TOC.Digest], as nydusd has it, or that without the tar header, which
// nydus-snapshotter's converter writes.
func (t *TOC) Is(digest [32]byte) bool { return digest == t.Digest || digest == t.bare }

// A Part is one entry of a table of contents. Offsets and sizes are in bytes and
// as stored: nothing says yet that they lie in the blob.
type Part struct {
	Name       string
	Compressor rafs.Compressor
	Digest     [32]byte // SHA-256 of the uncompressed bytes; zero where there is none
	Offset     int64
	StoredSize int64
	Size       int64
}

// ReadTOC finds the table of contents in a blob's tail, or the one part that
// the blobs of RAFS v5 have there. A blob with neither gives ErrNoTOC.
func ReadTOC(ctx context.Context, source Source) (*TOC, error) {
	name, size, err := readTrailer(ctx, source, source.Size())
	if err != nil {
		return nil, err
	}
	end := source.Size() - tarHeaderSize
	switch name {
	case PartBootstrap:
		return &TOC{Parts: []Part{{Name: name, Offset: end - size, StoredSize: size, Size: size}}}, nil
	case partTOC:
		return readTOC(ctx, source, end-size, size)
	}
	return nil, fmt.Errorf("blob's tail is %q: %w", name, ErrNoTOC)
}

// readTrailer reads the tar header that ends at end, and checks that the part
// it describes lies in the blob.
func readTrailer(ctx context.Context, source Source, end int64) (name string, size int64, err error) {
	if end < tarHeaderSize {
		return "", 0, fmt.Errorf("blob of %d bytes: %w", source.Size(), ErrNoTOC)
	}
	header := make([]byte, tarHeaderSize)
	if err := source.ReadRange(ctx, header, end-tarHeaderSize); err != nil {
		return "", 0, fmt.Errorf("read the blob's tail: %w", err)
	}
	h, err := tar.NewReader(bytes.NewReader(header)).Next()
	if err != nil {
		return "", 0, fmt.Errorf("blob's tail is no tar header (%v): %w", err, ErrNoTOC)
	}
	if h.Size < 0 || h.Size > end-tarHeaderSize {
		return "", 0, fmt.Errorf("%s in the blob's tail has %d bytes, the blob %d: %w", h.Name, h.Size, source.Size(), rafs.ErrCorrupt)
	}
	return h.Name, h.Size, nil
}

func readTOC(ctx context.Context, source Source, off, size int64) (*TOC, error) {
	if size%tocEntrySize != 0 || size > maxTOCEntries*tocEntrySize {
		return nil, fmt.Errorf("table of contents of %d bytes: %w", size, rafs.ErrCorrupt)
	}
	data := make([]byte, size+tarHeaderSize)
	if err := source.ReadRange(ctx, data, off); err != nil {
		return nil, fmt.Errorf("read the table of contents: %w", err)
	}
	toc := &TOC{Digest: sha256.Sum256(data), Size: int64(len(data)), bare: sha256.Sum256(data[:size])}
	for entry := data[:size]; len(entry) > 0; entry = entry[tocEntrySize:] {
		p := Part{
			Name:       string(bytes.TrimRight(entry[8:24], "\x00")),
			Digest:     [32]byte(entry[24:56]),
			Offset:     int64(binary.LittleEndian.Uint64(entry[56:])),
			StoredSize: int64(binary.LittleEndian.Uint64(entry[64:])),
			Size:       int64(binary.LittleEndian.Uint64(entry[72:])),
		}
		switch flags := binary.LittleEndian.Uint32(entry); flags {
		case 1:
			p.Compressor = rafs.CompressorNone
		case 2:
			p.Compressor = rafs.CompressorZstd
		case 4:
			p.Compressor = rafs.CompressorLZ4
		default:
			return nil, fmt.Errorf("%s in the table of contents has compression %#x: %w", p.Name, flags, rafs.ErrUnsupported)
		}
		toc.Parts = append(toc.Parts, p)
	}
	return toc, nil
}

// Part returns the part of the given name, nil if there is none.
func (t *TOC) Part(name string) *Part {
	for i := range t.Parts {
		if t.Parts[i].Name == name {
			return &t.Parts[i]
		}
	}
	return nil
}

// Bootstrap reads the bootstrap of the blob's layer, decompressed and verified
// against the table of contents (v5 has no digest there). A blob without one
// gives ErrNoTOC.
func (t *TOC) Bootstrap(ctx context.Context, source Source) ([]byte, error) {
	return t.read(ctx, source, PartBootstrap, "the layer's bootstrap")
}

// Digests reads the digests of the blob's chunks, 32 bytes for each of count, in the
// order of blob.meta, and verifies them against the table of contents. A blob
// without them gives ErrNoTOC.
func (t *TOC) Digests(ctx context.Context, source Source, count uint32) ([]byte, error) {
	if p := t.Part(partDigests); p != nil && p.Size != int64(count)*digestSize {
		return nil, fmt.Errorf("%s of %d bytes for %d chunks: %w", p.Name, p.Size, count, rafs.ErrCorrupt)
	}
	return t.read(ctx, source, partDigests, "the chunks' digests")
}

func (t *TOC) read(ctx context.Context, source Source, name, what string) ([]byte, error) {
	p := t.Part(name)
	if p == nil {
		return nil, ErrNoTOC
	}
	data, err := p.read(ctx, source)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	return data, nil
}

// Covers compares blob.meta with its digest in the table of contents, and says
// whether the table has digests of both blob.meta and blob.digest: then who vouches
// for the table vouches for them.
func (t *TOC) Covers(m *Meta) (bool, error) {
	none := [32]byte{}
	meta, digests := t.Part(partMeta), t.Part(partDigests)
	if meta == nil || meta.Digest == none {
		return false, nil
	}
	if got := m.Digest(); got != meta.Digest {
		return false, fmt.Errorf("blob.meta hashes to %x, the table of contents says %x: %w", got, meta.Digest, ErrDigest)
	}
	return digests != nil && digests.Digest != none, nil
}

// BootstrapMemory is what [TOC.Bootstrap] takes, in bytes: as it is stored and
// decompressed. It is as the table says, which may be anything.
func (t *TOC) BootstrapMemory() uint64 { return t.memory(PartBootstrap) }

// DigestsMemory is BootstrapMemory for [TOC.Digests].
func (t *TOC) DigestsMemory() uint64 { return t.memory(partDigests) }

func (t *TOC) memory(name string) uint64 {
	p := t.Part(name)
	if p == nil {
		return 0
	}
	return uint64(max(p.Size, 0)) + uint64(max(p.StoredSize, 0))
}

func (p *Part) read(ctx context.Context, source Source) ([]byte, error) {
	if err := checkRange(p.Offset, p.StoredSize, source.Size()); err != nil {
		return nil, err
	}
	if p.Size < 0 || p.Size > bootstrapLimit || p.StoredSize > bootstrapLimit {
		return nil, fmt.Errorf("%s of %d bytes, %d stored, is over the limit of %d: %w", p.Name, p.Size, p.StoredSize, bootstrapLimit, rafs.ErrCorrupt)
	}
	stored := make([]byte, p.StoredSize)
	if err := source.ReadRange(ctx, stored, p.Offset); err != nil {
		return nil, err
	}
	data, err := decompress(p.Compressor, stored, int(p.Size))
	if err != nil {
		return nil, err
	}
	if p.Digest != [32]byte{} {
		if err := verify(rafs.SHA256, data, p.Digest); err != nil {
			return nil, err
		}
	}
	return data, nil
}
