package rafs

import "fmt"

// maxPrefetch is how many entries of a prefetch table are read. Builders write
// one for each path that they were told, commonly "/" alone.
const maxPrefetch = 1 << 20

// Prefetch returns the numbers of the inodes that a runtime fetches ahead, in
// the order of the table. Nothing says that they are inodes of the tree.
func (t *Tree) Prefetch() ([]uint64, error) {
	table, err := t.format.prefetch()
	if err != nil {
		return nil, fmt.Errorf("read the prefetch table: %w", err)
	}
	if len(table)/4 > maxPrefetch {
		return nil, fmt.Errorf("read the prefetch table: %w", unsupportedf("%d entries, more than %d", len(table)/4, maxPrefetch))
	}
	var numbers []uint64
	for ; len(table) >= 4; table = table[4:] {
		if number := le.Uint32(table); number != 0 { // 0 is padding
			numbers = append(numbers, uint64(number))
		}
	}
	return numbers, nil
}

func (f *v5) prefetch() ([]byte, error) {
	b, err := f.metadata.at("superblock", 0, v5SuperFields)
	if err != nil || le.Uint32(b[60:]) == 0 {
		return nil, err
	}
	return f.metadata.at("prefetch table", le.Uint64(b[40:]), 4*uint64(le.Uint32(b[60:])))
}

func (f *v6) prefetch() ([]byte, error) {
	b, err := f.metadata.at("superblock", v6SuperOffset, v6SuperSize)
	if err != nil {
		return nil, err
	}
	x := b[128:]
	if le.Uint32(x[48:]) == 0 || le.Uint64(x[40:]) == 0 {
		return nil, nil // old builders wrote a size without a table
	}
	return f.metadata.at("prefetch table", le.Uint64(x[40:]), uint64(le.Uint32(x[48:])))
}
