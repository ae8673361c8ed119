package testregistry

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Fault is one way in which a registry, its token service or its storage fails to answer a request.
type Fault struct {
	Name string
	// Says is what an error has of the fault as its cause.
	Says *regexp.Regexp
	// Passes says that a client which asks again gets over the fault, if it does not stay.
	Passes bool
	// renews says that a client which kept an address of the storage asks the registry for a new one.
	renews bool
	// Slow says that a client needs half a minute or more to tell.
	Slow bool
	// all says that the fault meets all requests that are under way: more than one of it at a time is beyond what a
	// client gets over.
	all bool
	// of is the kind of answers that the fault spoils.
	of     kind
	answer func(p *FaultProxy, w http.ResponseWriter, r *http.Request)
}

// Fits says whether the fault changes anything about a step.
func (f *Fault) Fits(s Step) bool {
	switch f.of {
	case anything:
		return true
	case body:
		return s.Bytes > 1
	case withToken:
		return !strings.HasSuffix(s.Key, " /token")
	case ranges:
		return s.Range != "" && s.Status == http.StatusPartialContent
	}
	return false
}

// passesAt says whether a client gets over the fault at a step, if it does not stay.
func (f *Fault) passesAt(s Step) bool { return f.Passes || f.renews && s.Kept }

type kind int

const (
	anything  kind = iota
	body           // answers with a body
	ranges         // answers with a range
	withToken      // all but tokens
)

// otherBytes is what is said of bytes that are not what they should be.
var otherBytes = says(`digest mismatch|corrupt|\binvalid (character|checksum|header|input|tar header)`)

// Faults is the catalogue.
var Faults = []Fault{
	{Name: "refused", Says: says(`connection refused`), Passes: true, all: true, answer: func(p *FaultProxy, _ http.ResponseWriter, r *http.Request) { p.refuse(r) }},
	{Name: "reset", Says: says(`connection reset by peer`), Passes: true, answer: func(_ *FaultProxy, w http.ResponseWriter, _ *http.Request) { reset(w) }},
	{Name: "closed", Says: says(`\bEOF\b`), Passes: true, answer: func(*FaultProxy, http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
	{Name: "garbage", Says: says(`malformed HTTP`), Passes: true, answer: func(_ *FaultProxy, w http.ResponseWriter, _ *http.Request) { garbage(w) }},
	{Name: "reset in the body", Says: says(`connection reset by peer`), Passes: true, of: body, answer: broken(func(w http.ResponseWriter, _ *http.Request) { reset(w) })},
	{Name: "truncated", Says: says(`the answer broke off.*: unexpected EOF`), Passes: true, of: body, answer: broken(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })},
	{Name: "stall", Says: says(`the connection stalled`), Passes: true, Slow: true, answer: func(_ *FaultProxy, _ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }},
	{Name: "stall in the body", Says: says(`the connection stalled`), Passes: true, Slow: true, of: body, answer: broken(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })},
	{Name: "drip", Says: says(`the connection stalled`), Passes: true, Slow: true, of: body, answer: drip},
	{Name: "wrong bytes", Says: otherBytes, of: body, answer: recorded(func(a *answer, _ *http.Request) { a.body[len(a.body)/2] ^= 0x10 })},
	{Name: "many wrong bytes", Says: otherBytes, of: body, answer: recorded(func(a *answer, _ *http.Request) {
		for i := 0; i < len(a.body); i += 97 {
			a.body[i] ^= 0x10
		}
	})},
	{Name: "empty", Says: says(`digest mismatch|the answer broke off|unexpected end`), of: body, answer: recorded(func(a *answer, _ *http.Request) { a.body = nil })},
	{Name: "a page of HTML", Says: says(`has \d+ bytes for a blob of|invalid character '<'|text/html|digest mismatch|status code 401`), answer: recorded(func(a *answer, _ *http.Request) {
		a.status, a.body = http.StatusOK, []byte("<!DOCTYPE html><title>Log in to the hotel's network</title>")
		a.header = http.Header{"Content-Type": {"text/html"}}
	})},
	{Name: "endless", Says: says(`sends more than \d+ bytes|for a blob of`), of: body, answer: endless},
	{Name: "fewer bytes", Says: says(`the answer broke off`), Passes: true, of: ranges, answer: recorded(fewer)},
	{Name: "another range", Says: says(`the answer is for "bytes `), of: ranges, answer: recorded(func(a *answer, _ *http.Request) { a.moveRange(1, 0) })},
	{Name: "another size", Says: says(`the answer is for "bytes .*: size mismatch`), of: ranges, answer: recorded(func(a *answer, _ *http.Request) { a.moveRange(0, 1) })},
	{Name: "no ranges", Says: says(`for a blob of`), Passes: true, of: ranges, answer: func(p *FaultProxy, w http.ResponseWriter, r *http.Request) {
		whole := r.Clone(r.Context())
		whole.Header.Del("Range")
		p.truth(w, whole)
	}},
	{Name: "401", Says: answered(http.StatusUnauthorized), renews: true, answer: status(http.StatusUnauthorized)},
	{Name: "token expired", Says: answered(http.StatusUnauthorized), Passes: true, all: true, of: withToken, answer: func(p *FaultProxy, w http.ResponseWriter, _ *http.Request) { p.revoke(); p.challenge(w) }},
	{Name: "403", Says: answered(http.StatusForbidden), renews: true, answer: status(http.StatusForbidden)},
	{Name: "404", Says: answered(http.StatusNotFound), renews: true, answer: status(http.StatusNotFound)},
	{Name: "408", Says: answered(http.StatusRequestTimeout), Passes: true, answer: status(http.StatusRequestTimeout)},
	{Name: "416", Says: answered(http.StatusRequestedRangeNotSatisfiable), renews: true, answer: status(http.StatusRequestedRangeNotSatisfiable)},
	{Name: "429", Says: answered(http.StatusTooManyRequests), Passes: true, answer: status(http.StatusTooManyRequests)},
	{Name: "429 for a second", Says: answered(http.StatusTooManyRequests), Passes: true, answer: status(http.StatusTooManyRequests, "Retry-After", "1")},
	{Name: "429 for a day", Says: says(`answered 429 Too Many Requests and asks to wait 24h`), renews: true, answer: status(http.StatusTooManyRequests, "Retry-After", "86400")},
	{Name: "500", Says: answered(http.StatusInternalServerError), Passes: true, answer: status(http.StatusInternalServerError)},
	{Name: "501", Says: answered(http.StatusNotImplemented), renews: true, answer: status(http.StatusNotImplemented)},
	{Name: "502", Says: answered(http.StatusBadGateway), Passes: true, answer: status(http.StatusBadGateway)},
	{Name: "503", Says: answered(http.StatusServiceUnavailable), Passes: true, answer: status(http.StatusServiceUnavailable)},
	{Name: "504", Says: answered(http.StatusGatewayTimeout), Passes: true, answer: status(http.StatusGatewayTimeout)},
	{Name: "redirect to itself", Says: says(`(more than|stopped after) \d+ redirects`), Passes: true, answer: func(_ *FaultProxy, w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", r.URL.RequestURI())
		w.WriteHeader(http.StatusTemporaryRedirect)
	}},
	{Name: "redirect to nobody", Says: says(`127\.0\.0\.1:1: connect: connection refused|refusing token-server redirect to "http://127\.0\.0\.1:1/"`), answer: status(http.StatusTemporaryRedirect, "Location", "http://127.0.0.1:1/")},
	{Name: "redirect to metadata", Says: says(`169\.254\.169\.254.*(private|not followed)`), answer: status(http.StatusTemporaryRedirect, "Location", "http://169.254.169.254/latest/meta-data/")},
}

// says is short for the catalogue.
func says(pattern string) *regexp.Regexp { return regexp.MustCompile(pattern) }

// answered is how errors name an answer: by its status, or by the code in its body.
func answered(status int) *regexp.Regexp {
	return says(fmt.Sprintf("%d %s|%s: injected", status, http.StatusText(status), code(status)))
}

// code is how registries name a status.
func code(status int) string {
	return strings.ToUpper(strings.ReplaceAll(http.StatusText(status), " ", ""))
}

// FaultNamed returns a fault of the catalogue.
func FaultNamed(name string) Fault {
	for _, f := range Faults {
		if f.Name == name {
			return f
		}
	}
	panic("no fault is named " + name)
}

// refusedFor is how long nothing listens: less than a client waits that tries four times.
const refusedFor = 600 * time.Millisecond

// dripEvery is the time between two bytes.
const dripEvery = time.Second

// An answer is the true one, to be spoiled.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// moveRange alters what the Content-Range header says.
func (a *answer) moveRange(by, size int64) {
	var first, last, total int64
	if _, err := fmt.Sscanf(a.header.Get("Content-Range"), "bytes %d-%d/%d", &first, &last, &total); err == nil {
		a.header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first+by, last+by, total+size))
	}
}

// fewer leaves half of the range out and says so, as a server may.
func fewer(a *answer, _ *http.Request) {
	var first, last, total int64
	if _, err := fmt.Sscanf(a.header.Get("Content-Range"), "bytes %d-%d/%d", &first, &last, &total); err != nil {
		return
	}
	a.body = a.body[:(len(a.body)+1)/2]
	a.header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, first+int64(len(a.body))-1, total))
}

func (p *FaultProxy) record(r *http.Request) *answer {
	recorder := httptest.NewRecorder()
	p.truth(recorder, r)
	return &answer{recorder.Code, recorder.Header(), recorder.Body.Bytes()}
}

// begin sends status and header; length -1 is none.
func (a *answer) begin(w http.ResponseWriter, length int) {
	for name, values := range a.header {
		w.Header()[name] = values
	}
	w.Header().Del("Content-Length")
	if length >= 0 {
		w.Header().Set("Content-Length", strconv.Itoa(length))
	}
	w.WriteHeader(a.status)
}

// recorded alters the true answer.
func recorded(alter func(a *answer, r *http.Request)) func(*FaultProxy, http.ResponseWriter, *http.Request) {
	return func(p *FaultProxy, w http.ResponseWriter, r *http.Request) {
		a := p.record(r)
		alter(a, r)
		a.begin(w, len(a.body))
		_, _ = w.Write(a.body)
	}
}

// broken sends half of the true answer, then does what it is given.
func broken(then http.HandlerFunc) func(*FaultProxy, http.ResponseWriter, *http.Request) {
	return func(p *FaultProxy, w http.ResponseWriter, r *http.Request) {
		a := p.record(r)
		a.begin(w, len(a.body))
		_, _ = w.Write(a.body[:len(a.body)/2])
		_ = http.NewResponseController(w).Flush()
		then(w, r)
	}
}

// drip sends the true answer, a byte at a time.
func drip(p *FaultProxy, w http.ResponseWriter, r *http.Request) {
	a := p.record(r)
	a.begin(w, len(a.body))
	for i := range a.body {
		_, err := w.Write(a.body[i : i+1])
		_ = http.NewResponseController(w).Flush()
		sleep(r.Context(), dripEvery)
		if err != nil || r.Context().Err() != nil {
			return
		}
	}
}

// endless sends the true answer and goes on.
func endless(p *FaultProxy, w http.ResponseWriter, r *http.Request) {
	a := p.record(r)
	a.begin(w, -1)
	_, _ = w.Write(a.body)
	for more := make([]byte, 32<<10); r.Context().Err() == nil; {
		if _, err := w.Write(more); err != nil {
			return
		}
	}
}

// status answers with a status, a header and a body as registries send them.
func status(status int, header ...string) func(*FaultProxy, http.ResponseWriter, *http.Request) {
	return func(_ *FaultProxy, w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"errors":[{"code":%q,"message":"injected"}]}`, code(status))
	}
}

// reset ends the connection with an RST.
func reset(w http.ResponseWriter) {
	if connection := hijack(w); connection != nil {
		_ = connection.SetLinger(0)
		connection.Close()
	}
}

// garbage answers with what is no HTTP.
func garbage(w http.ResponseWriter) {
	if connection := hijack(w); connection != nil {
		_, _ = connection.Write([]byte("\x00\x01\x02 this is no HTTP\r\n\r\n"))
		connection.Close()
	}
}

func hijack(w http.ResponseWriter) *net.TCPConn {
	connection, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // HTTP/2 has no connection of its own
	}
	return connection.(*net.TCPConn)
}
