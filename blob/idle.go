package blob

import "container/list"

// An idleList holds the entries that are in memory though nobody has pinned them.
// What somebody will ask for stays longest: a chunk that was loaded and that nobody has
// read yet, and a unit in which expected chunks lie.
type idleList struct {
	wanted list.List // of *entry, those that were idle for longest first
	others list.List // likewise
	bytes  int64     // decompressed
}

// push adds an entry, which may be wanted.
func (l *idleList) push(e *entry, wanted bool) {
	e.idle = &l.others
	if wanted {
		e.idle = &l.wanted
	}
	e.node = e.idle.PushBack(e)
	l.bytes += int64(e.size)
}

// remove takes an entry out, if it is in.
func (l *idleList) remove(e *entry) {
	if e.idle == nil {
		return
	}
	e.idle.Remove(e.node)
	e.idle, e.node = nil, nil
	l.bytes -= int64(e.size)
}

// pop takes out the entry that is most likely not to be asked for again; there must
// be one.
func (l *idleList) pop() *entry {
	from := &l.others
	if from.Len() == 0 {
		from = &l.wanted
	}
	e := from.Front().Value.(*entry)
	l.remove(e)
	return e
}
