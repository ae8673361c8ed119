package blob

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"
)

const (
	// maxAnswer bounds what is read whole before it is looked at: manifests and
	// indexes, of which the largest allowed has 16 MiB, and tokens.
	maxAnswer = 16<<20 + 1
	// maxRefusal is how much is read of an answer that is an error: registries say
	// in some hundred bytes what is wrong.
	maxRefusal = 8 << 10
)

// A wholeTransport reads the answers to requests without a range before it
// returns them. So a body that breaks off is an error of the request, which is
// repeated as others are. The bodies of ranges, which are large and can be
// resumed, are left alone.
type wholeTransport struct{ inner http.RoundTripper }

func (t *wholeTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.inner.RoundTrip(req)
	if err != nil || req.Method == http.MethodHead || req.Header.Get("Range") != "" {
		return resp, err
	}
	defer resp.Body.Close()
	limit := int64(maxAnswer)
	if resp.StatusCode >= 300 {
		limit = maxRefusal
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit))
	switch {
	case resp.StatusCode >= 300: // what the status says does not need the body
	case err != nil:
		return nil, fmt.Errorf("%w after %d bytes: %w", errBroken, len(body), err)
	case len(body) == maxAnswer:
		return nil, &oversizeError{req.URL.Host}
	}
	if err := checkNamed(resp, body); err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}

// checkNamed compares an answer with the digest that it names itself, as manifests
// do: of one that is asked for by a tag nothing else tells that it was spoiled on
// the way. Clients that resolve tags by this header, as containerd does, rely on
// it, too.
func checkNamed(resp *http.Response, body []byte) error {
	named, is := strings.CutPrefix(resp.Header.Get("Docker-Content-Digest"), "sha256:")
	if resp.StatusCode != http.StatusOK || !is || strings.Contains(resp.Header.Get("Content-Type"), "prettyjws") {
		return nil // a signed manifest of schema 1 is named without its signature
	}
	if sum := sha256.Sum256(body); hex.EncodeToString(sum[:]) != named {
		return fmt.Errorf("%d bytes hash to sha256:%x, the answer names sha256:%.64s: %w", len(body), sum, named, ErrDigest)
	}
	return nil
}

// An oversizeError says that an answer is larger than any manifest or token.
type oversizeError struct{ host string }

func (e *oversizeError) Error() string {
	return fmt.Sprintf("%s sends more than %d bytes", e.host, maxAnswer-1)
}

func (e *oversizeError) Permanent() bool { return true }
