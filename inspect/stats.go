package inspect

import (
	"bufio"
	"context"
	"fmt"
	"math/bits"
	"strings"
	"text/tabwriter"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// Stats sum up a tree. Sizes are in bytes.
type Stats struct {
	Version int `json:"version"` // of RAFS
	// Inodes is what the superblock declares, as nydus-image inspect gives it.
	Inodes        uint64   `json:"inodes_count"`
	Flags         []string `json:"flags"`
	Compressor    string   `json:"compressor"`
	Digester      string   `json:"digester"`
	ChunkSize     uint32   `json:"chunk_size"`
	BootstrapSize int64    `json:"bootstrap_size"` // the metadata, decompressed

	// Names counts paths by the type of what they lead to. Hard links are the names
	// beyond the first of a file.
	Names     NameCounts `json:"names"`
	HardLinks int        `json:"hard_links"`

	// FileSize is that of all files, each inode once; Padding what rounding each up
	// to blocks of 4096 adds.
	FileSize uint64 `json:"file_size"`
	Padding  uint64 `json:"padding_size"`

	// Chunks are those that files ask for, UniqueChunks those with a digest of
	// their own. Without digests nothing is known to be the same.
	Chunks       ChunkCounts `json:"chunks"`
	UniqueChunks ChunkCounts `json:"unique_chunks"`

	Blobs []BlobUse `json:"blobs"`

	// FileSizes counts files by size: at 0 the empty ones, at n those of 2^(n-1) to
	// 2^n - 1 bytes, at 44 all larger ones.
	FileSizes [45]int `json:"file_sizes"`
	// ChunksBySize is how many chunks there would be in chunks of 2^12, 2^13 … 2^20
	// bytes.
	ChunksBySize [9]uint64 `json:"chunks_by_size"`
}

// NameCounts count paths.
type NameCounts struct {
	All         int `json:"all"` // with the root
	Files       int `json:"files"`
	Directories int `json:"directories"`
	Symlinks    int `json:"symlinks"`
	Devices     int `json:"devices"`
	FIFOs       int `json:"fifos"`
	Sockets     int `json:"sockets"`
}

// ChunkCounts count chunks. The compressed size is that of the bootstrap, which
// does not have it for chunks in batches and in OCI layers.
type ChunkCounts struct {
	Count            int    `json:"count"`
	CompressedSize   uint64 `json:"compressed_size"`
	UncompressedSize uint64 `json:"uncompressed_size"`
}

func (c *ChunkCounts) add(chunk *rafs.Chunk) {
	c.Count++
	c.CompressedSize += uint64(chunk.CompressedSize)
	c.UncompressedSize += uint64(chunk.UncompressedSize)
}

// stats gives [Stats].
func stats(ctx context.Context, s *Session, c *Call) (Answer, error) {
	tree, err := s.treeOf(ctx, c.layer)
	if err != nil {
		return nil, err
	}
	super := tree.Superblock()
	a := &Stats{
		Version: int(super.Version), Inodes: super.Inodes, Flags: bitNames(superblockFlags, uint64(super.Flags)),
		Compressor: compressorNames[super.Compressor], Digester: digesterNames[super.Digester],
		ChunkSize: super.ChunkSize, BootstrapSize: tree.Size(), Blobs: []BlobUse{},
	}
	count := counter{Stats: a, linked: map[uint64]bool{}, digests: map[[32]byte]bool{}, placed: map[uint64]bool{}}
	for _, b := range tree.Blobs() {
		a.Blobs = append(a.Blobs, newBlobUse(b))
	}
	err = tree.WalkContext(ctx, func(name string, i rafs.Inode) error {
		if err := count.add(i); err != nil {
			return fmt.Errorf("%s: %w", absolute(name), err)
		}
		return nil
	})
	for i, b := range tree.Blobs() {
		a.Blobs[i].finish(b)
	}
	return a, err
}

// A counter adds up inodes. What it keeps is bounded by the bootstrap, whose
// inodes and chunk lists do not overlap where a walk gets to its end.
type counter struct {
	*Stats
	linked  map[uint64]bool // inodes with several names that were met
	digests map[[32]byte]bool
	placed  map[uint64]bool // chunks by blob and index
}

func (c *counter) add(i rafs.Inode) error {
	c.Names.All++
	switch typeOf(i).letter {
	case '-':
		c.Names.Files++
	case 'd':
		c.Names.Directories++
	case 'l':
		c.Names.Symlinks++
	case 'c', 'b':
		c.Names.Devices++
	case 'p':
		c.Names.FIFOs++
	case 's':
		c.Names.Sockets++
	}
	if i.Links > 1 && !i.IsDir() {
		if c.linked[i.Number] {
			c.HardLinks++
			return nil
		}
		c.linked[i.Number] = true
	}
	if !i.IsRegular() {
		return nil
	}
	size := uint64(i.Size)
	c.FileSize += size
	c.Padding += (size+0xfff)&^0xfff - size
	c.FileSizes[min(bits.Len64(size), len(c.FileSizes)-1)]++
	for k := range c.ChunksBySize {
		c.ChunksBySize[k] += (size + 1<<(12+k) - 1) >> (12 + k)
	}
	chunks, err := i.Chunks()
	if err != nil {
		return err
	}
	for k := range chunks {
		c.addChunk(&chunks[k])
	}
	return nil
}

func (c *counter) addChunk(chunk *rafs.Chunk) {
	c.Chunks.add(chunk)
	use := &c.Stats.Blobs[chunk.Blob]
	if at := uint64(chunk.Blob)<<32 | uint64(chunk.Index); !c.placed[at] {
		c.placed[at] = true
		use.Used.add(chunk)
	}
	if !chunk.HasDigest {
		c.UniqueChunks.add(chunk)
		return
	}
	if !c.digests[chunk.Digest] {
		c.digests[chunk.Digest] = true
		c.UniqueChunks.add(chunk)
	}
}

// Text implements [Answer].
func (a *Stats) Text(w *bufio.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(t, "%s:\t"+format+"\n", append([]any{name}, args...)...)
	}
	row("RAFS version", "%d", a.Version)
	row("flags", "%s", joined(a.Flags))
	row("compressor", "%s", a.Compressor)
	row("digester", "%s", a.Digester)
	row("chunk size", "%d", a.ChunkSize)
	row("metadata", "%d bytes", a.BootstrapSize)
	row("inodes", "%d", a.Inodes)
	row("names", "%d", a.Names.All)
	row("files", "%d, %d of them hard links", a.Names.Files, a.HardLinks)
	row("directories", "%d", a.Names.Directories)
	row("symlinks", "%d", a.Names.Symlinks)
	row("devices", "%d", a.Names.Devices)
	row("fifos, sockets", "%d, %d", a.Names.FIFOs, a.Names.Sockets)
	row("size of files", "%d bytes", a.FileSize)
	row("chunks", "%s", a.Chunks.text())
	row("different chunks", "%s", a.UniqueChunks.text())
	if err := t.Flush(); err != nil {
		return err
	}
	if err := a.blobsText(w); err != nil {
		return err
	}
	fmt.Fprintln(w, "\nfiles by size:")
	most := 1
	for _, n := range a.FileSizes {
		most = max(most, n)
	}
	for k, n := range a.FileSizes {
		if n > 0 {
			fmt.Fprintf(w, "%9s  %8d  %s\n", sizeClass(k), n, strings.Repeat("#", (n*40+most-1)/most))
		}
	}
	return nil
}

func (c *ChunkCounts) text() string {
	return fmt.Sprintf("%d, %d bytes, %d compressed", c.Count, c.UncompressedSize, c.CompressedSize)
}

// sizeClass names the sizes that a place of FileSizes counts.
func sizeClass(k int) string {
	switch k {
	case 0:
		return "0"
	case 44:
		return ">= 8 TiB"
	}
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	return fmt.Sprintf("< %d %s", 1<<(k%10), units[k/10])
}
