package rafs

import (
	"context"
	"fmt"
)

// A Problem is something in a bootstrap that contradicts the format or the rest
// of the bootstrap.
type Problem struct {
	// Path is the name at which it shows, as [Tree.Walk] gives it; "" where it
	// concerns the whole bootstrap.
	Path string
	// Field says what is wrong, such as "links", "digest" or "chunk 3".
	Field string
	// Want is what the format or the rest of the bootstrap asks for, Got what is
	// stored. Both are for people.
	Want, Got string
}

func (p Problem) String() string {
	return fmt.Sprintf("%q: %s is %s, want %s", p.Path, p.Field, p.Got, p.Want)
}

// Check reports every problem of a bootstrap by calling report: what [Open] and
// [Tree.Walk] would refuse, and what they do not look at, because no reader needs
// it or because it takes the whole tree to see it. What cannot be read is
// reported and left out, the rest is still checked.
//
// It looks at the superblock and all tables; names, their order, "." and "..",
// parents and types; link counts against the names found, inode numbers, and the
// numbers of inodes that the superblock gives; modes, times, symbolic links and
// extended attributes; chunk lists against sizes; the ranges of chunks in their
// blobs, where two may be one but never overlap; and that no two parts of the
// bootstrap share a byte. Of a v5 bootstrap it computes the digests of all
// inodes, with hash, which gives the digest of data by a digester.
//
// The sizes of directories in v5, and blocks, are made up by builders in ways of
// their own: they are not looked at.
//
// Check ends on any input. Its memory is bounded by the size of the bootstrap;
// report keeps what it wants. It ends when ctx does, with its cause as the error:
// then not all was looked at.
func (t *Tree) Check(ctx context.Context, hash func(d Digester, data []byte) [32]byte, report func(Problem)) error {
	c := &checker{
		tree:    t,
		hash:    hash,
		report:  report,
		numbers: make(bitSet, t.format.nodes()/64+1),
		links:   make(map[uint64]linkCount),
		pending: make(map[uint64]Problem),
	}
	c.format = t.format.check(c)
	c.format.tables()
	first := newSurvey(t, report)
	first.visit = c.visit
	first.walk(ctx)
	c.reached = first.seen
	// Of a tree that was not walked to its end, the rest would say wrong things.
	if ctx.Err() == nil {
		c.checkLinks(ctx)
		c.format.finish(ctx)
		c.flush(ctx)
	}
	return context.Cause(ctx)
}

// A formatCheck checks what is different in each version of the format.
type formatCheck interface {
	// tables checks the superblock and what belongs to the whole image.
	tables()
	// inode checks an inode, when its first name is visited.
	inode(path string, i Inode)
	// chunks checks the chunk list of a regular file.
	chunks(path string, i Inode)
	// finish checks what takes the whole tree.
	finish(ctx context.Context)
	// records calls yield with the offset of each chunk record of a regular file.
	// What cannot be read is left out.
	records(i Inode, yield func(at uint64))
}

// A checker is the state of one Check.
type checker struct {
	tree   *Tree
	format formatCheck
	hash   func(Digester, []byte) [32]byte
	report func(Problem)

	names   uint64 // visited
	inodes  uint64 // distinct ones by number
	numbers bitSet // of inodes that have been visited
	reached bitSet // nodes, after the walk
	links   map[uint64]linkCount
	// pending holds problems of chunk records, by the offset of the record, until
	// a file is found that has the chunk.
	pending map[uint64]Problem
}

// maxPending bounds pending: problems beyond are reported without a path.
const maxPending = 100_000

// problem reports a problem at a path.
func (c *checker) problem(path, field string, want, got any) {
	c.report(Problem{path, field, fmt.Sprint(want), fmt.Sprint(got)})
}

// unreadable reports a part that cannot be decoded.
func (c *checker) unreadable(path, field string, err error) {
	c.report(unreadable(path, field, err))
}

func unreadable(path, field string, err error) Problem {
	return Problem{path, field, "readable", err.Error()}
}

// record reports a problem of a chunk record, of each record one.
func (c *checker) record(at uint64, field string, want, got any) {
	p := Problem{"", field, fmt.Sprint(want), fmt.Sprint(got)}
	if len(c.pending) >= maxPending {
		c.report(p)
		return
	}
	if _, ok := c.pending[at]; !ok {
		c.pending[at] = p
	}
}

// visit is called for each name.
func (c *checker) visit(path string, i Inode, first bool) {
	c.names++
	c.countLink(i)
	if !first {
		return
	}
	c.checkInode(path, i)
	c.format.inode(path, i)
	if i.IsRegular() {
		c.format.chunks(path, i)
	}
}

// flush reports the problems of chunk records, with a file that has the chunk
// where there is one. Paths are found by walking again: to keep them all would
// take more memory than the bootstrap.
func (c *checker) flush(ctx context.Context) {
	if len(c.pending) == 0 {
		return
	}
	again := newSurvey(c.tree, func(Problem) {})
	again.visit = func(path string, i Inode, first bool) {
		if !first || !i.IsRegular() {
			return
		}
		c.format.records(i, func(at uint64) {
			if p, ok := c.pending[at]; ok {
				p.Path = path
				c.report(p)
				delete(c.pending, at)
			}
		})
	}
	again.walk(ctx)
	for _, at := range sortedKeys(c.pending) {
		c.report(c.pending[at])
	}
}
