package nydusimage

import (
	"encoding/base64"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// Secrets are what a registry and its token service were told. Errors, which can
// quote what these answer and where they redirect to, are shown without them. It
// is safe for concurrent use.
type secrets struct {
	mu    sync.Mutex
	known []string // the last maxKnown
}

const (
	maxKnown  = 64 // tokens are renewed, some every few minutes
	minSecret = 4  // bytes: shorter ones would blacken every text
	maxForm   = 64 << 10
)

// watch is a transport that notes the credentials that pass.
func (s *secrets) watch(inner http.RoundTripper) http.RoundTripper {
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		scheme, value, _ := strings.Cut(req.Header.Get("Authorization"), " ")
		s.add(value)
		if plain, err := base64.StdEncoding.DecodeString(value); err == nil && strings.EqualFold(scheme, "basic") {
			_, password, _ := strings.Cut(string(plain), ":")
			s.add(string(plain))
			s.add(password)
		}
		if req.Method == http.MethodPost && req.GetBody != nil {
			s.addForm(req.GetBody)
		}
		return inner.RoundTrip(req)
	})
}

// addForm notes the refresh token and the password in a request for a token.
func (s *secrets) addForm(open func() (io.ReadCloser, error)) {
	body, err := open()
	if err != nil {
		return
	}
	defer body.Close()
	text, _ := io.ReadAll(io.LimitReader(body, maxForm))
	form, _ := url.ParseQuery(string(text))
	s.add(form.Get("refresh_token"))
	s.add(form.Get("password"))
}

func (s *secrets) add(secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(secret) < minSecret || slices.Contains(s.known, secret) {
		return
	}
	s.known = append(s.known[max(0, len(s.known)-maxKnown+1):], secret)
}

var (
	// Addresses to which registries redirect are signed in their query, and could
	// name a login.
	queries = regexp.MustCompile(`(https?://[^\s"'?]*)\?[^\s"']*`)
	logins  = regexp.MustCompile(`(https?://)[^\s"'/@]*@`)
	// tokenless is how go-containerregistry begins to quote a whole answer of a
	// token service, which may hold tokens in fields that it does not know.
	tokenless = regexp.MustCompile(`(?s)(no token in bearer response).*`)
)

// hide returns an error with the same chain, and a text without secrets.
func (s *secrets) hide(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	hidden := tokenless.ReplaceAllString(text, "$1")
	hidden = queries.ReplaceAllString(hidden, "$1?(query)")
	hidden = logins.ReplaceAllString(hidden, "$1(login)@")
	s.mu.Lock()
	known := slices.Clone(s.known)
	s.mu.Unlock()
	// The longest first: one may be a part of another.
	slices.SortFunc(known, func(a, b string) int { return len(b) - len(a) })
	for _, secret := range known {
		hidden = strings.ReplaceAll(hidden, secret, "***")
	}
	if hidden == text {
		return err
	}
	return &hiddenError{hidden, err}
}

// quiet is a transport whose errors hide secrets: a token may be asked for in the
// middle of a blob.
func (s *secrets) quiet(inner http.RoundTripper) http.RoundTripper {
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		resp, err := inner.RoundTrip(req)
		return resp, s.hide(err)
	})
}

// A hiddenError is an error whose own text holds secrets.
type hiddenError struct {
	text string
	error
}

func (e *hiddenError) Error() string { return e.text }
func (e *hiddenError) Unwrap() error { return e.error }
