package testregistry_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
)

// TestProxyShapes: times have lower bounds only, since a busy machine is slow by itself.
func TestProxyShapes(t *testing.T) {
	const size = 200 << 10
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, size)) }))
	defer origin.Close()
	p := testregistry.CountingProxy(t, origin.URL)
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	fetch := func() time.Duration {
		began := time.Now()
		response, err := client.Get(p.URL())
		if !assert.NoError(t, err) {
			return 0
		}
		defer response.Body.Close()
		n, err := io.Copy(io.Discard, response.Body)
		assert.NoError(t, err)
		assert.EqualValues(t, size, n)
		return time.Since(began)
	}

	p.Shape(testregistry.Link{RoundTrip: 50 * time.Millisecond})
	require.GreaterOrEqual(t, fetch(), 100*time.Millisecond, "a new connection and a request")
	require.GreaterOrEqual(t, fetch(), 50*time.Millisecond, "a request")
	// A busy machine may take longer, once.
	require.Less(t, min(fetch(), fetch(), fetch()), 100*time.Millisecond, "the connection is not a new one")

	p.Shape(testregistry.Link{BytesPerSecond: 1 << 20})
	began := time.Now()
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() { fetch() })
	}
	both.Wait()
	require.GreaterOrEqual(t, time.Since(began), 2*size*time.Second/(1<<20)-10*time.Millisecond, "two share the link")

	p.Shape(testregistry.Link{})
	require.Less(t, fetch(), 100*time.Millisecond)
}
