package artifact

import (
	"bytes"
	"debug/elf"
	"encoding/binary"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

const (
	// sectionNames is how many bytes before its table of sections hold an
	// executable's section names: linkers put them there.
	sectionNames = 4 << 10
	// dataStep is how much of a data segment is read at once, to look for what the
	// Go compiler wrote there. Of others' executables all of it is read, in such steps.
	dataStep = 1 << 20
	// goStep is how much of the data segment holds it, where a note says that the Go
	// compiler wrote the file.
	goStep = 128 << 10
)

// A part is a range of a file, in bytes. What a crafted file makes of it may be
// anything: no chunk, or all that the file has.
type part struct{ from, to uint64 }

// executableParts are the parts of a file that the analyzers of executables go on to
// read, as its first bytes tell: of an ELF file the table of sections and their names,
// and the data segment's beginning (debug/elf and debug/buildinfo of Go's library). Of
// other formats it knows none; then their parts are fetched when they are read.
func executableParts(head []byte) []part {
	e, ok := readELF(head)
	if !ok {
		return nil
	}
	table := part{e.Shoff, e.Shoff + uint64(e.Shnum)*uint64(e.Shentsize)}
	names := part{e.Shoff - min(e.Shoff, sectionNames), e.Shoff}
	if s, ok := e.section(int(e.Shstrndx)); ok {
		names = part{s.Off, s.Off + s.Size}
	}
	parts := []part{table, names}
	var data *elf.Prog64
	step := uint64(dataStep)
	for n := range int(e.Phnum) {
		p, ok := e.segment(n)
		if !ok {
			break
		}
		if e.isGoNote(&p) {
			step = goStep
		}
		if data == nil && isData(elf.ProgType(p.Type), elf.ProgFlag(p.Flags)) {
			data = &p
		}
	}
	if data != nil {
		parts = append(parts, part{data.Off, data.Off + min(data.Filesz, step)})
	}
	return parts
}

// isData says whether a segment is the one that debug/buildinfo searches, if it is
// the first such.
func isData(kind elf.ProgType, flags elf.ProgFlag) bool {
	return kind == elf.PT_LOAD && flags&(elf.PF_X|elf.PF_W) == elf.PF_W
}

// An elfHead is the beginning of an ELF file, of 32 or 64 bits and either byte order,
// with its header as it would be with 64 bits.
type elfHead struct {
	elf.Header64
	bytes []byte
	order binary.ByteOrder
	short bool // 32 bits
}

func readELF(head []byte) (*elfHead, bool) {
	if !bytes.HasPrefix(head, []byte(elf.ELFMAG)) || len(head) < elf.EI_NIDENT {
		return nil, false
	}
	e := &elfHead{bytes: head, order: binary.LittleEndian, short: elf.Class(head[elf.EI_CLASS]) == elf.ELFCLASS32}
	if elf.Data(head[elf.EI_DATA]) == elf.ELFDATA2MSB {
		e.order = binary.BigEndian
	}
	if !e.short {
		return e, e.decode(0, &e.Header64)
	}
	var h elf.Header32
	ok := e.decode(0, &h)
	e.Phoff, e.Phentsize, e.Phnum = uint64(h.Phoff), h.Phentsize, h.Phnum
	e.Shoff, e.Shentsize, e.Shnum, e.Shstrndx = uint64(h.Shoff), h.Shentsize, h.Shnum, h.Shstrndx
	return e, ok
}

// decode reads a structure, if it lies in the beginning of the file.
func (e *elfHead) decode(off uint64, to any) bool {
	if off > uint64(len(e.bytes)) {
		return false
	}
	_, err := binary.Decode(e.bytes[off:], e.order, to)
	return err == nil
}

func (e *elfHead) segment(n int) (p elf.Prog64, ok bool) {
	off := e.Phoff + uint64(n)*uint64(e.Phentsize)
	if !e.short {
		return p, e.decode(off, &p)
	}
	var short elf.Prog32
	ok = e.decode(off, &short)
	return elf.Prog64{Type: short.Type, Flags: short.Flags, Off: uint64(short.Off), Filesz: uint64(short.Filesz)}, ok
}

// isGoNote says whether the build ID that the Go linker writes is among the notes of
// a segment.
func (e *elfHead) isGoNote(p *elf.Prog64) bool {
	size := uint64(len(e.bytes))
	if elf.ProgType(p.Type) != elf.PT_NOTE || p.Off > size {
		return false
	}
	return bytes.Contains(e.bytes[p.Off:][:min(p.Filesz, size-p.Off)], []byte("Go\x00\x00"))
}

func (e *elfHead) section(n int) (s elf.Section64, ok bool) {
	off := e.Shoff + uint64(n)*uint64(e.Shentsize)
	if !e.short {
		return s, e.decode(off, &s)
	}
	var short elf.Section32
	ok = e.decode(off, &short)
	return elf.Section64{Off: uint64(short.Off), Size: uint64(short.Size)}, ok
}

// executables parts the files of a batch, whose chunks are in memory, in those that
// are ready to be analyzed, and executables of which more is to be loaded, in
// batches that take no more than the first was given for them.
func executables(b batch) (ready []item, more []batch) {
	for _, i := range b.items {
		chunks := executableChunks(b.view, &i)
		if len(chunks) == 0 {
			ready = append(ready, i)
			continue
		}
		i.chunks = chunks
		size := bytesOf(chunks)
		last := len(more) - 1
		if last < 0 || more[last].size+size > batchBytes/2 {
			more = append(more, batch{view: b.view})
			last++
		}
		more[last].items = append(more[last].items, i)
		more[last].size += size
	}
	return ready, more
}

// executableChunks are the chunks that an executable's first chunk asks for. What
// cannot be read there fails when an analyzer reads it.
func executableChunks(view *nydusmount.View, i *item) []rafs.Chunk {
	if i.later == 0 || view.Data == nil {
		return nil
	}
	head, err := view.Data.ReadChunk(&i.chunks[0])
	if err != nil {
		return nil
	}
	chunks, err := i.file.inode.Chunks()
	if err != nil {
		return nil
	}
	return chunksOf(chunks[1:], executableParts(head))
}

// chunksOf are those of a file's chunks, in order, that lie in parts of it, as far as
// a batch may take them.
func chunksOf(chunks []rafs.Chunk, parts []part) []rafs.Chunk {
	var found []rafs.Chunk
	var size int64
	for _, c := range chunks {
		from, to := uint64(c.FileOffset), uint64(c.FileOffset)+uint64(c.UncompressedSize)
		for _, p := range parts {
			if from >= p.to || p.from >= to {
				continue
			}
			if size += int64(c.UncompressedSize); size > batchBytes/2 && len(found) > 0 {
				return found
			}
			found = append(found, c)
			break
		}
	}
	return found
}
