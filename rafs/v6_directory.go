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

// A v6DirentBlock is one of its blocks, and by itself the list of the names in it.
type v6DirentBlock struct {
	data  []byte
	first int // number of entries in the blocks before
	count int
}

func (f *v6) directory(node uint64) (directory, error) {
	n, blocks, err := f.findDirectory(node)
	if err != nil {
		return nil, err
	}
	d := &v6Directory{blocks: make([]v6DirentBlock, blocks)}
	for k := range d.blocks {
		b, err := f.direntBlock(n, k)
		if err != nil {
			return nil, err
		}
		b.first = d.count
		d.count += b.count
		d.blocks[k] = b
	}
	return d, nil
}

// child looks for the block first, by the names that blocks begin with, and then in
// it. To open the whole directory for each name would make a lookup of every name
// quadratic.
func (f *v6) child(node uint64, name string) (dirent, bool, error) {
	n, blocks, err := f.findDirectory(node)
	if err != nil {
		return dirent{}, false, err
	}
	var block v6DirentBlock // the last in which the name may be, of those looked at
	after := sort.Search(blocks, func(k int) bool {
		b, blockErr := f.direntBlock(n, k)
		var first dirent
		if blockErr == nil {
			first, blockErr = b.entry(0)
		}
		if blockErr != nil {
			err = blockErr
			return true
		}
		if name < string(first.name) {
			return true
		}
		block = b
		return false
	})
	if err != nil || after == 0 {
		return dirent{}, false, err
	}
	return search(block, name)
}

// findDirectory returns the inode of a directory, and of how many blocks its data is.
func (f *v6) findDirectory(node uint64) (v6Inode, int, error) {
	n, err := f.find(node)
	if err != nil {
		return v6Inode{}, 0, err
	}
	if n.size() > uint64(len(f.metadata)) {
		return v6Inode{}, 0, corruptf("%d bytes of entries in a bootstrap of %d", n.size(), len(f.metadata))
	}
	return n, int((n.size() + v6BlockSize - 1) / v6BlockSize), nil
}

// direntBlock opens block k of a directory. How many records it has is told by where
// the first name begins: right behind them.
func (f *v6) direntBlock(n v6Inode, k int) (v6DirentBlock, error) {
	data, err := f.dataBlock(n, uint64(k))
	if err != nil {
		return v6DirentBlock{}, err
	}
	if len(data) < v6DirentSize {
		return v6DirentBlock{}, corruptf("a block of directory entries has %d bytes", len(data))
	}
	names := int(le.Uint16(data[8:]))
	if names < v6DirentSize || names%v6DirentSize != 0 || names > len(data) {
		return v6DirentBlock{}, corruptf("the names of directory entries begin at %d in a block of %d bytes", names, len(data))
	}
	return v6DirentBlock{data: data, count: names / v6DirentSize}, nil
}

func (d *v6Directory) len() int { return d.count }

func (d *v6Directory) entry(k int) (dirent, error) {
	i := 0
	if len(d.blocks) > 1 {
		i = sort.Search(len(d.blocks), func(i int) bool { return d.blocks[i].first > k }) - 1
	}
	return d.blocks[i].entry(k - d.blocks[i].first)
}

func (b v6DirentBlock) len() int { return b.count }

func (b v6DirentBlock) entry(k int) (dirent, error) {
	record := b.data[k*v6DirentSize:]
	start := int(le.Uint16(record[8:]))
	end := len(b.data)
	if k+1 < b.count {
		end = int(le.Uint16(record[v6DirentSize+8:]))
	}
	if start < b.count*v6DirentSize || start > end || end > len(b.data) {
		return dirent{}, corruptf("a name takes the bytes %d to %d in a block of %d", start, end, len(b.data))
	}
	name := b.data[start:end]
	if k+1 == b.count {
		// Only the last name of a block may be padded.
		name, _, _ = bytes.Cut(name, []byte{0})
	}
	dots := string(name) == "." || string(name) == ".."
	return dirent{name: name, node: le.Uint64(record), kind: record[10], dots: dots}, nil
}
