package rafs

import (
	"bytes"
	"context"
	"fmt"
)

// A survey walks a tree that may be damaged: what is wrong with names and
// directories it reports, and goes on with what can be read. Each part of the
// bootstrap is read once. An inode that shares bytes with another is reported
// and not read, so that the survey ends and costs no more than an honest one.
type survey struct {
	tree   *Tree
	report func(Problem)
	// visit is called for each name, a directory before its children. first says
	// that the inode has not been visited under another name.
	visit func(path string, i Inode, first bool)

	seen   bitSet // nodes
	bad    bitSet // nodes that were not visited
	claims claims
	path   []byte
	stack  []surveyLevel
}

// A surveyLevel is a directory whose entries are being walked.
type surveyLevel struct {
	dir        Inode
	parent     Inode
	directory  directory
	next       int
	previous   []byte
	subfolders uint32
	self, up   int // how often "." and ".." were seen
	pathLength int // of the directory's path in survey.path
}

// newSurvey prepares a walk. The parts of the bootstrap that belong to the whole
// image are claimed, and reported where they overlap.
func newSurvey(t *Tree, report func(Problem)) *survey {
	s := &survey{
		tree:   t,
		report: report,
		seen:   make(bitSet, t.format.nodes()/64+1),
		bad:    make(bitSet, t.format.nodes()/64+1),
		claims: newClaims(t.size),
	}
	for _, p := range t.format.parts() {
		if !s.claims.claim(p.offset, p.size) {
			s.problem("", p.what, "bytes of its own", fmt.Sprintf("%d bytes at %d that another table takes", p.size, p.offset))
		}
	}
	return s
}

// A part is a range of the bootstrap, inside it.
type part struct {
	what         string
	offset, size uint64
}

func (s *survey) problem(path, field string, want, got any) {
	s.report(Problem{path, field, fmt.Sprint(want), fmt.Sprint(got)})
}

// walk ends early when ctx does.
func (s *survey) walk(ctx context.Context) {
	s.enter(".", s.tree.root, s.tree.root)
	for len(s.stack) > 0 && ctx.Err() == nil {
		top := &s.stack[len(s.stack)-1]
		s.path = s.path[:top.pathLength]
		if top.next == top.directory.len() {
			s.leave(top)
			s.stack = s.stack[:len(s.stack)-1]
			continue
		}
		e, err := top.directory.entry(top.next)
		top.next++
		if err != nil {
			s.report(unreadable(s.directoryPath(), fmt.Sprintf("entry %d", top.next), err))
			continue
		}
		s.entry(top, e)
	}
}

// entry follows an entry of the directory on top of the stack.
func (s *survey) entry(top *surveyLevel, e dirent) {
	if top.previous != nil {
		s.checkOrder(top, e)
	}
	top.previous = e.name
	if e.dots {
		s.checkDots(top, e)
		return
	}
	if err := checkName(e.name); err != nil {
		s.report(unreadable(s.directoryPath(), fmt.Sprintf("entry %d", top.next), err))
		return
	}
	if len(s.path)+1+len(e.name) > maxPathLength {
		s.report(unreadable(s.directoryPath(), fmt.Sprintf("entry %d", top.next),
			unsupportedf("its path has more than %d bytes", maxPathLength)))
		return
	}
	if len(s.path) > 0 {
		s.path = append(s.path, '/')
	}
	s.path = append(s.path, e.name...)
	path := string(s.path)
	child, err := s.tree.inode(e.node)
	if err != nil {
		s.report(unreadable(path, "inode", err))
		return
	}
	if child.IsDir() {
		top.subfolders++
	}
	s.tree.format.checkEntry(e, top.dir, child, func(field string, want, got any) { s.problem(path, field, want, got) })
	s.enter(path, child, top.dir)
}

// checkOrder compares an entry's name with the one before. A reader searches by
// halving: what is out of order may not be found.
func (s *survey) checkOrder(top *surveyLevel, e dirent) {
	switch order := bytes.Compare(top.previous, e.name); {
	case order == 0:
		s.problem(s.directoryPath(), "names", "each name once", fmt.Sprintf("%q twice", e.name))
	case order > 0:
		s.problem(s.directoryPath(), "names", "sorted bytewise", fmt.Sprintf("%q before %q", top.previous, e.name))
	}
}

func (s *survey) checkDots(top *surveyLevel, e dirent) {
	want, count := top.dir.node, &top.self
	if string(e.name) == ".." {
		want, count = top.parent.node, &top.up
	}
	*count++
	if e.node != want {
		s.problem(s.directoryPath(), fmt.Sprintf("entry %q", e.name), fmt.Sprintf("inode %d", want), fmt.Sprintf("inode %d", e.node))
	}
}

// enter visits an inode under one of its names and, if it is a directory, goes
// on with its entries.
func (s *survey) enter(path string, i, parent Inode) {
	first := s.seen.add(i.node)
	switch {
	case !first && i.IsDir():
		s.problem(path, "inode", "one name", fmt.Sprintf("directory inode %d, which another name leads to as well", i.Number))
		return
	case !first:
		if !s.bad.has(i.node) {
			s.visit(path, i, false)
		}
		return
	}
	parts, err := s.tree.format.inodeParts(i.node)
	if err != nil {
		s.bad.add(i.node)
		s.report(unreadable(path, "inode", err))
		return
	}
	for _, p := range parts {
		if !s.claims.claim(p.offset, p.size) {
			s.bad.add(i.node)
			s.problem(path, p.what, "bytes of its own", fmt.Sprintf("%d bytes at %d that another part takes", p.size, p.offset))
			return
		}
	}
	s.visit(path, i, true)
	if !i.IsDir() {
		return
	}
	d, err := s.tree.format.directory(i.node)
	if err != nil {
		s.report(unreadable(path, "entries", err))
		return
	}
	s.stack = append(s.stack, surveyLevel{dir: i, parent: parent, directory: d, pathLength: len(s.path)})
}

// leave checks what takes all entries of a directory.
func (s *survey) leave(top *surveyLevel) {
	path := s.directoryPath()
	if want := top.subfolders + 2; top.dir.Links != want {
		s.problem(path, "links", want, top.dir.Links)
	}
	if s.tree.format.superblock().Version != V6 {
		return // it has no entries for these
	}
	for _, dots := range []struct {
		name  string
		count int
	}{{".", top.self}, {"..", top.up}} {
		if dots.count == 0 {
			s.problem(path, fmt.Sprintf("entry %q", dots.name), "there", "missing")
		}
	}
}

// directoryPath returns the path of the directory on top of the stack.
func (s *survey) directoryPath() string {
	if n := s.stack[len(s.stack)-1].pathLength; n > 0 {
		return string(s.path[:n])
	}
	return "."
}
