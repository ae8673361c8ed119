package blob

import (
	"bytes"
	"container/list"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

const (
	// parallelRequests is how many requests for data are under way at once: enough
	// to fill a link with a long round trip, few enough for a registry's limits.
	parallelRequests = 16
	// inFlight bounds the stored bytes that are being fetched and decoded.
	inFlight = 8 << 20
	// defaultKept is how many decompressed bytes stay in memory after use, for
	// files that analyzers open again and chunks that files share.
	defaultKept = 8 << 20
)

// A Reader holds the blobs of one image and the chunks that are in memory.
// Whatever asks, a chunk that is in memory or under way is not fetched again.
// It is safe for concurrent use.
type Reader struct {
	sources map[string]Source
	flight  *semaphore.Weighted // bytes
	kept    int64               // bytes allowed in idle

	mu         sync.Mutex
	metas      map[string]*Meta // by blob
	ciphers    map[rafs.Secret]int
	entries    map[key]*entry
	idle       idleList
	expected   map[key]int // units: how often chunks in them are expected
	seen       map[key]trace
	read       map[string][]extent // by blob: the chunks and units that were read
	spares     map[string][]spare  // by blob
	spareBytes int64

	stats struct {
		chunks, again, bytes, decoding atomic.Int64
	}
}

// A key identifies a chunk: chunks of different bootstraps that lie at the same
// place of the same blob, with the same digest, and are decoded in the same way, are
// one. It also identifies a unit that chunks share: that has no digest.
type key struct {
	blob   string
	off    int64
	stored uint32
	size   uint32
	within uint32 // the chunk's place in the unit that it shares
	shared bool   // it is such a unit
	digest [32]byte
	// digester gives the digest. compressor, none for what is stored as it is, and
	// cipher say how the bytes are decoded; cipher is 0 or one of Reader.ciphers.
	digester   rafs.Digester
	compressor rafs.Compressor
	cipher     int
}

// A trace is what became of a chunk or a unit so far.
type trace struct {
	decoded bool
	read    bool // by somebody who asked for its bytes, not only to have it loaded
}

// An entry is a chunk that is in memory, or on its way there; or a unit from
// which chunks are cut.
type entry struct {
	key
	index uint32
	// codec and secret, which may be nil, give the bytes. A chunk that is cut out of a
	// unit has neither.
	codec  codec
	secret decrypter
	// unit describes the unit in which the chunk lies; nil for its own.
	unit *entry
	// parts are the chunks to be cut out of a unit.
	parts []*entry

	// What follows is guarded by Reader.mu. idle and node say where in Reader.idle it
	// is, if there.
	pins int
	read bool // somebody asked for its bytes, not only to have it loaded
	idle *list.List
	node *list.Element

	// ready is closed once data or err is set; neither changes afterwards.
	ready chan struct{}
	data  []byte
	err   error
}

// NewReader returns a reader of the given blobs, by blob ID: the hexadecimal
// digest without algorithm.
func NewReader(sources map[string]Source) *Reader {
	return &Reader{
		sources:  sources,
		flight:   semaphore.NewWeighted(inFlight),
		kept:     defaultKept,
		metas:    make(map[string]*Meta),
		ciphers:  make(map[rafs.Secret]int),
		entries:  make(map[key]*entry),
		expected: make(map[key]int),
		seen:     make(map[key]trace),
		read:     make(map[string][]extent),
		spares:   make(map[string][]spare),
	}
}

// AddSource gives the reader another blob. It must be called while nothing is read.
func (r *Reader) AddSource(id string, source Source) { r.sources[id] = source }

// Keep sets how many decompressed bytes may stay in memory after use. It must be
// called before anything is read.
func (r *Reader) Keep(bytes int64) { r.kept = bytes }

// SetMeta gives the reader a blob's own table of chunks. The chunks of blobs for
// which [NeedsMeta] holds cannot be read before.
func (r *Reader) SetMeta(id string, m *Meta) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.metas[id] = m
}

// Forget lets go of what is in memory only because it may be wanted again.
func (r *Reader) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.evict(0)
	clear(r.spares)
	r.spareBytes = 0
}

// evict removes idle entries until they have no more than kept bytes. r.mu must be
// held.
func (r *Reader) evict(kept int64) {
	for r.idle.bytes > kept {
		delete(r.entries, r.idle.pop().key)
	}
}

// cipher numbers the secrets of encrypted blobs, from 1 on.
func (r *Reader) cipher(secret rafs.Secret) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.ciphers[secret]; !known {
		r.ciphers[secret] = len(r.ciphers) + 1
	}
	return r.ciphers[secret]
}

func (r *Reader) meta(id string) *Meta {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.metas[id]
}

// pin returns the entry of a chunk, kept in memory until unpin. fresh says that
// the caller is the first and has to fetch it.
func (r *Reader) pin(e entry) (_ *entry, fresh bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	// One that failed but is still pinned by those who waited for it is left to
	// them: this reader tries again.
	if known, ok := r.entries[e.key]; ok && !known.failed() {
		r.idle.remove(known)
		known.pins++
		return known, false
	}
	e.pins = 1
	e.ready = make(chan struct{})
	r.entries[e.key] = &e
	return &e, true
}

// unpin lets go of an entry. One that failed is forgotten, so that a later
// read tries again.
func (r *Reader) unpin(e *entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.pins--; e.pins > 0 {
		return
	}
	if r.entries[e.key] != e {
		return // it failed and another has taken its place
	}
	if e.err != nil || e.data == nil {
		delete(r.entries, e.key)
		return
	}
	r.rest(e)
	r.evict(r.kept)
}

// rest makes an entry idle. r.mu must be held.
func (r *Reader) rest(e *entry) {
	if e.shared {
		r.idle.push(e, r.expected[e.key] > 0)
	} else {
		r.idle.push(e, !e.read)
	}
}

// expect changes how often chunks in units are expected.
func (r *Reader) expect(units []key, change int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, u := range units {
		if r.expected[u] += change; r.expected[u] == 0 {
			delete(r.expected, u)
		}
		if e, there := r.entries[u]; there && e.idle != nil {
			r.idle.remove(e)
			r.rest(e)
		}
	}
}

// fetch brings fresh entries of one blob into memory. The error is that of the
// first that failed; each entry has its own.
func (r *Reader) fetch(ctx context.Context, entries []*entry) error {
	group, ctx := errgroup.WithContext(ctx)
	var wanted, shared []*entry
	for _, e := range entries {
		if e.unit != nil {
			shared = append(shared, e)
		} else {
			wanted = append(wanted, e)
		}
	}
	if len(shared) > 0 {
		wanted = append(wanted, r.fetchShared(ctx, group, shared)...)
	}
	missing := wanted[:0]
	for _, e := range wanted {
		stored := r.spare(e)
		if stored == nil {
			missing = append(missing, e)
			continue
		}
		// Its spare is part of something larger.
		group.Go(func() error { return r.finish(e, stored, len(stored)+1, nil) })
	}
	if len(missing) > 0 {
		r.fetchMissing(ctx, group, r.sources[missing[0].blob], missing)
	}
	return group.Wait()
}

// fetchMissing lets the group make entries of one blob ready. source is nil for a blob
// that the image does not have.
func (r *Reader) fetchMissing(ctx context.Context, group *errgroup.Group, source Source, entries []*entry) {
	many := several(source)
	for _, spans := range requests(plan(entries, many), many) {
		group.Go(func() error {
			err := r.fetchSpans(ctx, source, spans)
			if !errors.Is(err, errSingly) {
				return err
			}
			var again []*entry
			for n := range spans {
				again = append(again, spans[n].entries...)
			}
			r.fetchMissing(ctx, group, source, again)
			return nil
		})
	}
}

// fetchSpans makes the entries of spans of one blob ready, by one request. After
// errSingly they are as they were.
func (r *Reader) fetchSpans(ctx context.Context, source Source, spans []span) error {
	var size int64
	for n := range spans {
		size += spans[n].size()
	}
	// Small requests count as much as lets parallelRequests of them be under way.
	weight := min(max(size, inFlight/parallelRequests), inFlight)
	err := r.flight.Acquire(ctx, weight)
	if err == nil {
		defer r.flight.Release(weight)
	} else {
		err = context.Cause(ctx)
	}
	var data [][]byte
	if err == nil {
		data, err = r.readSpans(ctx, source, spans, size)
	}
	if errors.Is(err, errSingly) {
		return err
	}
	var first error
	for n, s := range spans {
		if err == nil {
			r.keepSpares(s, data[n])
		}
		for _, e := range s.entries {
			var stored []byte
			if err == nil {
				stored = data[n][e.off-s.off:][:e.stored]
			}
			if failed := r.finish(e, stored, int(size), err); failed != nil && first == nil {
				first = failed
			}
		}
	}
	return first
}

// readSpans returns the bytes of spans, size in all.
func (r *Reader) readSpans(ctx context.Context, source Source, spans []span, size int64) ([][]byte, error) {
	if source == nil {
		return nil, fmt.Errorf("the image's manifest does not list that blob: %w", ErrIncomplete)
	}
	// Before memory is taken for them.
	for n := range spans {
		if err := checkRange(spans[n].off, spans[n].size(), source.Size()); err != nil {
			return nil, err
		}
	}
	all := make([]byte, size)
	ranges := make([]byteRange, len(spans))
	data := make([][]byte, len(spans))
	for n, s := range spans {
		data[n], all = all[:s.size():s.size()], all[s.size():]
		ranges[n] = byteRange{off: s.off, data: data[n]}
	}
	return data, readRanges(ctx, source, ranges)
}

// finish makes an entry ready: with the bytes that were stored, part of a span
// of spanSize bytes in one buffer, or with the error for which there are none.
func (r *Reader) finish(e *entry, stored []byte, spanSize int, err error) error {
	if err == nil {
		e.data, err = r.decode(e, stored, spanSize)
	}
	if err != nil && !e.shared {
		err = fmt.Errorf("chunk %d of blob %s: %w", e.index, e.blob, err)
	}
	e.err = err
	close(e.ready)
	if e.shared {
		parts := e.parts
		e.parts = nil // they go when nobody holds them, though the unit may stay
		return r.cut(e, parts, err)
	}
	return err
}

// decode decrypts, decompresses and verifies one chunk out of a span of spanSize
// bytes. A unit is not verified.
func (r *Reader) decode(e *entry, stored []byte, spanSize int) ([]byte, error) {
	start := time.Now()
	plain := stored
	var data []byte
	var err error
	if e.secret != nil {
		plain, err = e.secret.decrypt(stored)
	}
	if err == nil {
		data, err = e.codec.decode(plain, int(e.size))
	}
	if err == nil && len(data) > 0 && len(stored) > 0 && &data[0] == &stored[0] && len(data) < spanSize {
		// On its own, so that it does not keep its whole span in memory.
		data = bytes.Clone(data)
	}
	r.stats.decoding.Add(int64(time.Since(start)))
	switch {
	case err != nil:
		return nil, err
	case e.shared:
		r.noteDecoded(e)
		return data, nil
	}
	return r.verified(e, data)
}

// verified returns a chunk's bytes if they are what its digest says.
func (r *Reader) verified(e *entry, data []byte) ([]byte, error) {
	start := time.Now()
	err := verify(e.digester, data, e.digest)
	r.stats.decoding.Add(int64(time.Since(start)))
	if err != nil {
		return nil, err
	}
	r.stats.chunks.Add(1)
	r.stats.bytes.Add(int64(e.size))
	r.noteDecoded(e)
	return data, nil
}

// noteDecoded counts what is decoded once more.
func (r *Reader) noteDecoded(e *entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.seen[e.key]
	if t.decoded {
		r.stats.again.Add(1)
	}
	t.decoded = true
	r.seen[e.key] = t
}

// failed says whether the entry's chunk could not be had.
func (e *entry) failed() bool {
	select {
	case <-e.ready:
		return e.err != nil
	default:
		return false
	}
}

// wait returns an entry's data once it is there.
func (e *entry) wait(ctx context.Context) ([]byte, error) {
	select {
	case <-e.ready:
		return e.data, e.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
