// Package mutate alters bootstraps on purpose, for fuzzing: it knows where the
// numbers of the format stand, changes some of them by name, and mends what has to
// fit, so that what it makes gets past the checks that random bytes end at.
//
// The package knows the format by the format's documents, not by package rafs'
// decoders, of which it only uses the walk, to find the inodes of a sound sample.
package mutate

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

var le = binary.LittleEndian

// A Field is a number in a bootstrap: Size bytes at At, little endian.
type Field struct {
	Name     string
	At, Size int
}

// A Sample is a sound bootstrap of which the fields are known.
type Sample struct {
	bytes  []byte
	v6     bool
	fields []Field
	byName map[string][]int // numbers of the fields of one name
	names  []string         // in the order in which they were found
	tables []table
	// uncounted is how many inodes the superblock of v5 leaves out.
	uncounted uint64
}

// A table can be moved: its offset stands in one field, its size in bytes is in or
// follows from another.
type table struct {
	offset Field
	size   int
}

// New finds the fields of a bootstrap, which must be sound.
func New(bootstrap []byte) (*Sample, error) {
	tree, err := rafs.Open(bytes.NewReader(bootstrap), int64(len(bootstrap)))
	if err != nil {
		return nil, fmt.Errorf("find the fields of a bootstrap: %w", err)
	}
	s := &Sample{bytes: bootstrap, byName: make(map[string][]int), v6: tree.Superblock().Version == rafs.V6}
	if s.v6 {
		err = s.findV6(tree)
	} else {
		s.findV5()
	}
	if err != nil {
		return nil, fmt.Errorf("find the fields of a bootstrap: %w", err)
	}
	return s, nil
}

// Names lists the names of all fields.
func (s *Sample) Names() []string { return s.names }

func (s *Sample) add(name string, at, size int) {
	if at < 0 || at+size > len(s.bytes) {
		return
	}
	if s.byName[name] == nil {
		s.names = append(s.names, name)
	}
	s.byName[name] = append(s.byName[name], len(s.fields))
	s.fields = append(s.fields, Field{name, at, size})
}

// chunk adds the fields of a chunk record of 80 bytes, the same in v5 and v6.
func (s *Sample) chunk(at int) {
	for _, f := range []Field{{"chunk digest", 0, 8}, {"chunk blob", 32, 4}, {"chunk flags", 36, 4}, {"chunk compressed size", 40, 4},
		{"chunk size", 44, 4}, {"chunk compressed offset", 48, 8}, {"chunk offset", 56, 8}, {"chunk file offset", 64, 8},
		{"chunk index", 72, 4}, {"chunk crc32", 76, 4}} {
		s.add(f.Name, at+f.At, f.Size)
	}
}

// stepSize is what one change takes of a recipe: the field's name, which of the
// fields of that name (2 bytes), what is done, and with what.
const stepSize = 5

// maxSteps bounds the changes that one recipe makes.
const maxSteps = 16

// What the bits of a recipe's first byte mend or move.
const (
	KeepDigests = 1 << iota // v5: do not compute the inodes' digests again
	KeepCounts              // do not count the inodes again
	KeepLinks               // do not count the names of inodes again
	MoveTable               // a table to the end, its offset with it
	Truncate                // the end is cut off
)

// Apply returns a changed copy. Every recipe is one: its first byte says what is
// mended, each following group of bytes is a change.
func (s *Sample) Apply(recipe []byte) []byte {
	b := bytes.Clone(s.bytes)
	if len(recipe) == 0 {
		return b
	}
	how, steps := recipe[0], recipe[1:]
	if how&MoveTable != 0 && len(s.tables) > 0 {
		b = s.move(b, s.tables[int(how>>5)%len(s.tables)])
	}
	for n := 0; n < maxSteps && len(steps) >= stepSize; n++ {
		s.change(b, steps[:stepSize])
		steps = steps[stepSize:]
	}
	if how&KeepLinks == 0 {
		s.mendLinks(b)
	}
	if how&KeepCounts == 0 {
		s.mendCounts(b)
	}
	if !s.v6 && how&KeepDigests == 0 {
		s.mendDigests(b)
	}
	if how&Truncate != 0 {
		b = b[:len(b)-min(len(b), 1<<(how>>5))]
	}
	return b
}

// Step makes a change of a recipe: for seeds.
func (s *Sample) Step(name string, which uint16, operation, operand byte) []byte {
	for k, n := range s.names {
		if n == name {
			return append(le.AppendUint16([]byte{byte(k)}, which), operation, operand)
		}
	}
	panic("no field " + name)
}

// move copies a table to the end of the bootstrap and points to it there.
func (s *Sample) move(b []byte, t table) []byte {
	at := get(b, t.offset)
	if at > uint64(len(b)) || t.size > len(b)-int(at) {
		return b
	}
	content := bytes.Clone(b[at:][:t.size])
	for len(b)%4096 != 0 {
		b = append(b, 0)
	}
	put(b, t.offset, uint64(len(b)))
	return append(b, content...)
}

func get(b []byte, f Field) uint64 {
	var wide [8]byte
	copy(wide[:], b[f.At:][:f.Size])
	return le.Uint64(wide[:])
}

func put(b []byte, f Field, value uint64) {
	var wide [8]byte
	le.PutUint64(wide[:], value)
	copy(b[f.At:][:f.Size], wide[:])
}

// change makes one change.
func (s *Sample) change(b, step []byte) {
	of := s.byName[s.names[int(step[0])%len(s.names)]]
	f := s.fields[of[int(le.Uint16(step[1:]))%len(of)]]
	value, operand := get(b, f), uint64(step[4])
	switch step[3] % 8 {
	case 0:
		value += operand
	case 1:
		value -= operand
	case 2:
		value = operand
	case 3: // a power of two, or one less
		value = 1<<(operand%64) - operand>>7
	case 4: // that of another of the same name: shared places, cycles
		value = get(b, s.fields[of[int(operand)%len(of)]])
	case 5: // exchanged with another of the same name
		other := s.fields[of[int(operand)%len(of)]]
		old := get(b, other)
		put(b, other, value)
		value = old
	case 6:
		value ^= 1 << (operand % 64)
	case 7: // about the size of the bootstrap, in bytes or in units
		value = uint64(len(b))>>(operand%16) + operand>>6 - 1
	}
	put(b, f, value)
}
