package rafs

import "fmt"

// checkDigest computes the digest of an inode from what it is made of: a
// directory's from the digests of its entries, which have been or will be
// computed themselves, so that the root's stands for all.
func (f *v5Check) checkDigest(path string, i Inode, n v5Inode) {
	f.buf = f.buf[:0]
	var err error
	switch {
	case i.IsSymlink():
		var target []byte
		target, err = f.readlink(i.node)
		f.buf = append(f.buf, target...)
	case i.IsRegular():
		f.records(i, func(at uint64) { f.buf = append(f.buf, f.metadata[at:][:32]...) })
	case i.IsDir():
		err = f.appendDigests(n)
	}
	if err != nil {
		return // it is reported as what cannot be read
	}
	if want := f.c.hash(f.super.Digester, f.buf); want != [32]byte(n.record[:32]) {
		f.c.problem(path, "digest", fmt.Sprintf("%x", want), fmt.Sprintf("%x", n.record[:32]))
	}
}

// appendDigests appends the digests of a directory's entries to f.buf.
func (f *v5Check) appendDigests(dir v5Inode) error {
	first := dir.childIndex()
	for node := first; node < first+dir.childCount(); node++ {
		n, err := f.find(node)
		if err != nil {
			return err
		}
		f.buf = append(f.buf, n.record[:32]...)
	}
	return nil
}
