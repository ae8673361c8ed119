package rafs

import (
	"bytes"
	"sort"
)

const v6DirentSize = 12

// A v6Directory is the data of a directory: blocks of 4 KiB, in each of which
// records come first and the names that they locate after.
type v6Directory struct {
	blocks []v6DirentBlock
	count  int
}

type v6DirentBlock struct {
	data  []byte
	first int // number of entries in the blocks before
}

func (f *v6) directory(node uint64) (directory, error) {
	n, err := f.find(node)
	if err != nil {
		return nil, err
	}
	if n.size() > uint64(len(f.metadata)) {
		return nil, corruptf("%d bytes of entries in a bootstrap of %d", n.size(), len(f.metadata))
	}
	blocks := (n.size() + v6BlockSize - 1) / v6BlockSize
	d := &v6Directory{blocks: make([]v6DirentBlock, blocks)}
	for k := range blocks {
		data, err := f.dataBlock(n, k)
		if err != nil {
			return nil, err
		}
		d.blocks[k] = v6DirentBlock{data: data, first: d.count}
		count, err := d.blocks[k].len()
		if err != nil {
			return nil, err
		}
		d.count += count
	}
	return d, nil
}

// len returns the number of records, which is told by where the first name
// begins: right behind them.
func (b v6DirentBlock) len() (int, error) {
	if len(b.data) < v6DirentSize {
		return 0, corruptf("a block of directory entries has %d bytes", len(b.data))
	}
	names := int(le.Uint16(b.data[8:]))
	if names < v6DirentSize || names%v6DirentSize != 0 || names > len(b.data) {
		return 0, corruptf("the names of directory entries begin at %d in a block of %d bytes", names, len(b.data))
	}
	return names / v6DirentSize, nil
}

func (d *v6Directory) len() int { return d.count }

func (d *v6Directory) entry(k int) (dirent, error) {
	i := 0
	if len(d.blocks) > 1 {
		i = sort.Search(len(d.blocks), func(i int) bool { return d.blocks[i].first > k }) - 1
	}
	end := d.count
	if i+1 < len(d.blocks) {
		end = d.blocks[i+1].first
	}
	b := d.blocks[i]
	return b.entry(k-b.first, end-b.first)
}

// entry decodes the record k of count.
func (b v6DirentBlock) entry(k, count int) (dirent, error) {
	record := b.data[k*v6DirentSize:]
	start := int(le.Uint16(record[8:]))
	end := len(b.data)
	if k+1 < count {
		end = int(le.Uint16(record[v6DirentSize+8:]))
	}
	if start < count*v6DirentSize || start > end || end > len(b.data) {
		return dirent{}, corruptf("a name takes the bytes %d to %d in a block of %d", start, end, len(b.data))
	}
	name := b.data[start:end]
	if k+1 == count {
		// Only the last name of a block may be padded.
		name, _, _ = bytes.Cut(name, []byte{0})
	}
	dots := string(name) == "." || string(name) == ".."
	return dirent{name: name, node: le.Uint64(record), kind: record[10], dots: dots}, nil
}
