package testregistry

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// FaultProxy stands before a registry as the large ones are: it asks for a bearer token, which its token service gives to
// everybody, and redirects blobs to a storage on another port, by signed addresses. Any of them fails as a Schedule says.
// It is safe for concurrent use; a client should be alone with it, or steps of several are counted together.
type FaultProxy struct {
	registry, storage *door
	proxy             *Proxy // before the real registry

	mu       sync.Mutex
	schedule *Schedule
	steps    []*Step
	counts   map[string]int
	sent     map[string]int // by path and range: how often the registry was asked
	issued   int            // tokens
	revoked  int            // tokens up to this one are no longer good
}

// Step is one request, in a run in which nothing fails.
type Step struct {
	// Key names what was asked for: "registry" or "storage", method and path, and the range.
	Key string
	// Nth is how often that had been asked for before.
	Nth   int
	Range string // the Range header, empty where there was none
	// Kept says that the client has not just been sent there by the registry: it asks the storage by an address that it kept.
	Kept bool
	// Status and Bytes are those of the answer.
	Status int
	Bytes  int64
}

func (s Step) String() string {
	if s.Nth > 0 {
		return fmt.Sprintf("%s (again, %d)", s.Key, s.Nth)
	}
	return s.Key
}

// resource is what a request asks for, whatever the range.
func resource(key string) string { before, _, _ := strings.Cut(key, " bytes="); return before }

// Forever lets a fault stay, for all requests of the same resource.
const Forever = -1

// Schedule says which steps fail, how, and how often. It can be followed once.
type Schedule struct {
	planned []*plan
	// Injected counts the answers that were spoiled.
	Injected int

	staying bool // the fault that came last is one that stays
	fatal   bool // some fault was at a step at which no client gets over it
}

type plan struct {
	step  Step
	fault Fault
	times int // left; Forever
	begun bool
}

// One lets one step fail so many times.
func One(step Step, fault Fault, times int) *Schedule {
	return &Schedule{planned: []*plan{{step: step, fault: fault, times: times}}}
}

// Random lets up to n steps fail, each once or twice and by one of the faults, the same for the same seed. Of the faults
// that meet all requests there is one at most.
func Random(seed uint64, steps []Step, faults []Fault, n int) *Schedule {
	random := rand.New(rand.NewPCG(seed, 0))
	s := &Schedule{}
	var all bool
	for range n {
		step, fault := steps[random.IntN(len(steps))], faults[random.IntN(len(faults))]
		times := 1 + random.IntN(2)
		switch {
		case !fault.Fits(step), fault.all && all:
			continue
		case fault.all:
			all, times = true, 1
		}
		s.planned = append(s.planned, &plan{step: step, fault: fault, times: times})
	}
	return s
}

// Explains says whether an error names one of the faults that were met as its cause.
func (s *Schedule) Explains(text string) bool {
	return slices.ContainsFunc(s.planned, func(p *plan) bool { return p.begun && p.fault.Says.MatchString(text) })
}

// Passes says whether a client gets over all faults that were met, if they do not stay. Requests that go on
// beside each other are not always the same, so that this is known afterwards.
func (s *Schedule) Passes() bool { return !s.fatal }

// String lists the faults.
func (s *Schedule) String() string {
	var lines []string
	for _, p := range s.planned {
		lines = append(lines, fmt.Sprintf("%s: %s", p.step, p.fault.Name))
	}
	return strings.Join(lines, "\n")
}

// next is the fault for a request, nil for none.
func (s *Schedule) next(step Step) *Fault {
	for _, p := range s.planned {
		if p.times == 0 {
			continue
		}
		exactly := p.step.Key == step.Key && step.Nth >= p.step.Nth
		if !exactly && !(p.times == Forever && p.begun && resource(p.step.Key) == resource(step.Key)) {
			continue
		}
		p.begun = true
		if p.times != Forever {
			p.times--
		}
		s.Injected++
		s.fatal = s.fatal || !p.fault.passesAt(step)
		s.staying = p.times == Forever
		return &p.fault
	}
	return nil
}

// StartFaultProxy starts one before a registry of plain HTTP, until the test ends.
func StartFaultProxy(t testing.TB, registry string) *FaultProxy {
	t.Helper()
	p := &FaultProxy{proxy: CountingProxy(t, registry), counts: make(map[string]int), sent: make(map[string]int)}
	p.registry = openDoor(t, p)
	p.storage = openDoor(t, p)
	return p
}

// Host is the "127.0.0.1:port" of the registry, Storage that of the storage.
func (p *FaultProxy) Host() string    { return p.registry.address }
func (p *FaultProxy) Storage() string { return p.storage.address }

// Follow begins a run: all listen, steps are counted anew, and the schedule, which may be nil, is obeyed.
func (p *FaultProxy) Follow(s *Schedule) {
	p.registry.reopen()
	p.storage.reopen()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.schedule, p.steps, p.counts, p.sent = s, nil, make(map[string]int), make(map[string]int)
}

// Steps are the requests since Follow, in the order in which they came.
func (p *FaultProxy) Steps() []Step {
	p.mu.Lock()
	defer p.mu.Unlock()
	var steps []Step
	for _, s := range p.steps {
		steps = append(steps, *s)
	}
	return steps
}

// ServeHTTP implements http.Handler.
func (p *FaultProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	where := "registry"
	if p.doorOf(r) == p.storage {
		where = "storage"
	}
	step := &Step{Key: fmt.Sprintf("%s %s %s", where, r.Method, r.URL.Path), Range: r.Header.Get("Range")}
	if step.Range != "" && where == "storage" {
		step.Key += " " + step.Range // at the registry each range of a blob is a redirect
	}
	p.mu.Lock()
	step.Nth = p.counts[step.Key]
	p.counts[step.Key]++
	if place := r.URL.Path + " " + step.Range; where == "registry" {
		p.sent[place]++
	} else {
		step.Kept = p.sent[place] <= step.Nth
	}
	p.steps = append(p.steps, step)
	var fault *Fault
	if p.schedule != nil {
		fault = p.schedule.next(*step)
	}
	p.mu.Unlock()
	if fault != nil {
		fault.answer(p, w, r)
		return
	}
	entry := &Request{}
	counted := &countingWriter{ResponseWriter: w, mu: &p.mu, entry: entry, shape: &shaper{}}
	p.truth(counted, r)
	p.mu.Lock()
	step.Status, step.Bytes = entry.Status, entry.Bytes
	p.mu.Unlock()
}

// truth answers as nothing fails.
func (p *FaultProxy) truth(w http.ResponseWriter, r *http.Request) {
	switch {
	case p.doorOf(r) == p.storage:
		if r.URL.Query().Get("X-Signature") == "" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		p.proxy.Forward(w, r)
	case r.URL.Path == "/token":
		p.mu.Lock()
		p.issued++
		token := p.issued
		p.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"token": "token-%d", "expires_in": 300}`, token)
	case !p.good(r.Header.Get("Authorization")):
		p.challenge(w)
	case strings.Contains(r.URL.Path, "/blobs/"):
		w.Header().Set("Location", fmt.Sprintf("http://%s%s?X-Signature=signed-for-one", p.Storage(), r.URL.Path))
		w.WriteHeader(http.StatusTemporaryRedirect)
	default:
		p.proxy.Forward(w, r)
	}
}

func (p *FaultProxy) good(authorization string) bool {
	var token int
	if _, err := fmt.Sscanf(authorization, "Bearer token-%d", &token); err != nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return token > p.revoked
}

// revoke lets all tokens so far expire.
func (p *FaultProxy) revoke() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.revoked = p.issued
}

// challenge asks for a token.
func (p *FaultProxy) challenge(w http.ResponseWriter) {
	w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="test"`, p.Host()))
	w.WriteHeader(http.StatusUnauthorized)
}

// doorOf is where a request came in.
func (p *FaultProxy) doorOf(r *http.Request) *door {
	if r.Context().Value(doorKey{}) == p.storage {
		return p.storage
	}
	return p.registry
}

type doorKey struct{}

// refuse lets nothing listen where a request came in.
func (p *FaultProxy) refuse(r *http.Request) {
	p.mu.Lock()
	while := refusedFor
	if p.schedule.staying {
		while = time.Hour // until Follow
	}
	p.mu.Unlock()
	p.doorOf(r).refuse(while)
}

// A door is an address at which a server listens, or for a while nothing.
type door struct {
	address string
	server  *http.Server

	mu          sync.Mutex
	listener    net.Listener // nil while nothing listens
	connections map[net.Conn]bool
	closed      bool
}

func openDoor(t testing.TB, handler http.Handler) *door {
	t.Helper()
	d := &door{address: "127.0.0.1:0", connections: make(map[net.Conn]bool)}
	d.server = &http.Server{
		Handler:     handler,
		ErrorLog:    log.New(io.Discard, "", 0), // clients try TLS first
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context { return context.WithValue(ctx, doorKey{}, d) },
		ConnState:   d.track,
		// HTTP/1 alone: its faults are those of connections.
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
	}
	if err := d.open(); err != nil {
		t.Fatalf("listen: %v", err)
	}
	t.Cleanup(func() {
		d.mu.Lock()
		d.closed = true
		d.mu.Unlock()
		d.server.Close()
	})
	return d
}

func (d *door) open() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed || d.listener != nil {
		return nil
	}
	listener, err := net.Listen("tcp", d.address)
	if err != nil {
		return err
	}
	d.listener, d.address = listener, listener.Addr().String()
	go func() { _ = d.server.Serve(listener) }()
	return nil
}

// reopen listens again, at once.
func (d *door) reopen() {
	for d.open() != nil {
		time.Sleep(10 * time.Millisecond) // somebody has the port for a moment
	}
}

func (d *door) track(c net.Conn, state http.ConnState) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if state == http.StateNew {
		d.connections[c] = true
	} else if state == http.StateClosed || state == http.StateHijacked {
		delete(d.connections, c)
	}
}

// refuse breaks all connections and refuses others for a while.
func (d *door) refuse(while time.Duration) {
	d.mu.Lock()
	if d.listener != nil {
		d.listener.Close()
		d.listener = nil
		time.AfterFunc(while, d.reopen)
	}
	for c := range d.connections {
		_ = c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
	d.mu.Unlock()
}
