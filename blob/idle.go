package blob

import "container/list"

// An idleList holds the entries that are in memory though nobody has pinned them.
// A chunk that nobody has read yet stays longest: it was loaded because somebody will.
type idleList struct {
	unread list.List // of *entry, those that were idle for longest first
	others list.List // likewise: chunks that were read, and units
	bytes  int64     // decompressed
}

// push adds an entry.
func (l *idleList) push(e *entry) {
	e.idle = &l.unread
	if e.read || e.shared {
		e.idle = &l.others
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
		from = &l.unread
	}
	e := from.Front().Value.(*entry)
	l.remove(e)
	return e
}
