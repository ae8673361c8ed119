package nydusimage

import (
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/blob"
)

// Traffic counts what was asked of registries and token services and what came,
// or what was read of an OCI layout. It is safe for concurrent use.
type Traffic struct {
	requests, bytes, metadata atomic.Int64
	waiting                   blob.Stopwatch
}

// Requests is the number of HTTP requests sent so far.
func (t *Traffic) Requests() int64 { return t.requests.Load() }

// Bytes is the number of bytes of answers' bodies, or of files, so far.
func (t *Traffic) Bytes() int64 { return t.bytes.Load() }

// Metadata is how many of the bytes nobody can do without who reads the image:
// those of index, manifest, config and bootstraps, and of the blobs' tables.
func (t *Traffic) Metadata() int64 { return t.metadata.Load() }

// NoteMetadata counts bytes of metadata that were read and had to be; the nil
// Traffic counts nothing.
func (t *Traffic) NoteMetadata(bytes int64) {
	if t != nil {
		t.metadata.Add(bytes)
	}
}

// Waiting is the time in which at least one request was under way.
func (t *Traffic) Waiting() time.Duration { return t.waiting.Elapsed() }

// Count wraps a transport so that its traffic is counted.
func (t *Traffic) Count(inner http.RoundTripper) http.RoundTripper {
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		t.requests.Add(1)
		stop := t.waiting.Start()
		resp, err := inner.RoundTrip(req)
		if err != nil {
			stop()
			return nil, err
		}
		resp.Body = &countedBody{resp.Body, t, stop}
		return resp, nil
	})
}

type countedBody struct {
	io.ReadCloser
	traffic *Traffic
	stop    func()
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.traffic.bytes.Add(int64(n))
	if err != nil {
		b.stop()
	}
	return n, err
}

func (b *countedBody) Close() error {
	b.stop()
	return b.ReadCloser.Close()
}
