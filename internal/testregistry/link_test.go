package testregistry_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
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

// TestProxyGivesSingleRanges: like many a store, it answers a request for several ranges with all there is.
func TestProxyGivesSingleRanges(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader("0123456789"))
	}))
	defer origin.Close()
	p := testregistry.CountingProxy(t, origin.URL)
	for _, link := range []testregistry.Link{{}, {SingleRanges: true}} {
		p.Shape(link)
		for ranges, want := range map[string]int{"bytes=1-2": http.StatusPartialContent, "bytes=1-2,5-6": http.StatusPartialContent} {
			if link.SingleRanges && strings.Contains(ranges, ",") {
				want = http.StatusOK
			}
			request, err := http.NewRequest(http.MethodGet, p.URL(), nil)
			require.NoError(t, err)
			request.Header.Set("Range", ranges)
			response, err := http.DefaultClient.Do(request)
			require.NoError(t, err)
			response.Body.Close()
			assert.Equal(t, want, response.StatusCode, ranges)
		}
	}
}
