package blob

import (
	"net/http"
	"net/url"
	"sync/atomic"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// A Server gives an image's blobs over HTTP. What it turns out not to be able to do
// for one of them is not asked for the others.
type Server struct {
	transport http.RoundTripper
	notice    func(string)
	temp      *rafs.Budget
	// single says that it does not give several ranges at once.
	single atomic.Bool
}

// NewServer returns a server that is asked through transport, which authenticates,
// keeps credentials from other hosts and repeats failed requests (see [Retry]). notice,
// which may be nil, is told once a blob when the server has no ranges and the blob is
// downloaded whole; temp, which may be nil, is what such downloads may take of the disk.
func NewServer(transport http.RoundTripper, notice func(string), temp *rafs.Budget) *Server {
	if notice == nil {
		notice = func(string) {}
	}
	return &Server{transport: transport, notice: notice, temp: temp}
}

// Blob returns the source of the blob at the given address, size bytes long.
func (s *Server) Blob(address *url.URL, size int64) *HTTP {
	return &HTTP{server: s, origin: address, size: size}
}
