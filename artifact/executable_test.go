package artifact

import (
	"debug/elf"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	gobinary "github.com/aquasecurity/trivy/pkg/dependency/parser/golang/binary"
	rustbinary "github.com/aquasecurity/trivy/pkg/dependency/parser/rust/binary"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// A watched file counts the chunks that are read.
type watched struct {
	*os.File
	chunkSize int64
	read      map[int64]bool
}

func (w *watched) ReadAt(p []byte, off int64) (int, error) {
	n, err := w.File.ReadAt(p, off)
	for c := off / w.chunkSize; c*w.chunkSize < off+int64(n); c++ {
		w.read[c] = true
	}
	return n, err
}

// TestExecutableParts compares what the first chunk of real executables tells with
// what Trivy's parsers then read of them. Chunks are small, so that little lies in
// one by chance.
func TestExecutableParts(t *testing.T) {
	tools := testimage.Tools(t)
	// A test's own executable is not as Go links programs where it has cgo.
	for _, path := range []string{"go", tools.DockerRegistry, tools.Nydusd, "bash", "perl", "git"} {
		path, err := exec.LookPath(path)
		require.NoError(t, err)
		t.Run(filepath.Base(path), func(t *testing.T) { compareParts(t, path, 16<<10) })
	}
	root, err := exec.Command("go", "env", "GOROOT").Output()
	require.NoError(t, err)
	// Of 32 and 64 bits, of either byte order.
	samples, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(root)), "src/debug/elf/testdata/*"))
	require.NoError(t, err)
	for _, path := range samples {
		if f, err := elf.Open(path); err == nil {
			f.Close()
			t.Run(filepath.Base(path), func(t *testing.T) { compareParts(t, path, 1024) })
		}
	}
}

func compareParts(t *testing.T, path string, chunkSize int64) {
	file, err := os.Open(path)
	require.NoError(t, err)
	defer file.Close()
	info, err := file.Stat()
	require.NoError(t, err)
	var chunks []rafs.Chunk
	for off := int64(0); off < info.Size(); off += chunkSize {
		chunks = append(chunks, rafs.Chunk{FileOffset: off, UncompressedSize: uint32(min(chunkSize, info.Size()-off))})
	}
	head := make([]byte, chunkSize)
	_, err = file.ReadAt(head, 0)
	require.NoError(t, err)
	foreseen := map[int64]bool{0: true}
	for _, c := range chunksOf(chunks[1:], executableParts(head)) {
		foreseen[c.FileOffset/chunkSize] = true
	}
	w := &watched{File: file, chunkSize: chunkSize, read: make(map[int64]bool)}
	_, _, goErr := gobinary.NewParser().Parse(t.Context(), w)
	_, _, rustErr := rustbinary.NewParser().Parse(t.Context(), w)

	var surprises, inVain []int64
	for c := range w.read {
		if !foreseen[c] {
			surprises = append(surprises, c)
		}
	}
	for c := range foreseen {
		if !w.read[c] {
			inVain = append(inVain, c)
		}
	}
	t.Logf("%d chunks, %d foreseen, %d read; surprises %v, in vain %v", len(chunks), len(foreseen), len(w.read), surprises, inVain)
	most := sectionNames + chunkSize
	if goErr == nil {
		most += goStep // reading ends where it finds what it looks for
	}
	assert.LessOrEqual(t, int64(len(inVain))*chunkSize, most)
	if path == testimage.Tools(t).Nydusd || goErr == nil || rustErr == nil {
		// A linker may put names elsewhere, and what Go and Rust write.
		assert.LessOrEqual(t, len(surprises), 1)
		return
	}
	assert.Empty(t, surprises)
}

// A crafted header does not make more be loaded than a batch may take.
func TestCraftedExecutable(t *testing.T) {
	head := make([]byte, 4096)
	h := elf.Header64{Ident: [16]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB)},
		Phoff: 64, Phnum: 0xffff, Phentsize: 0, Shoff: 1024, Shnum: 0xffff, Shentsize: 0xffff, Shstrndx: 1}
	_, err := binary.Encode(head, binary.LittleEndian, h)
	require.NoError(t, err)
	for n := range head[1024:] {
		head[1024+n] = 0x77
	}
	chunks := make([]rafs.Chunk, 100)
	for n := range chunks {
		chunks[n] = rafs.Chunk{FileOffset: int64(n) << 20, UncompressedSize: 1 << 20}
	}
	assert.Less(t, len(chunksOf(chunks[1:], executableParts(head))), 5)
}
