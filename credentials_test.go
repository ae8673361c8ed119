package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aquasecurity/trivy/pkg/fanal/types"
	"github.com/aquasecurity/trivy/pkg/flag"
)

func withLogin(t *testing.T, databases ...string) flag.Options {
	t.Helper()
	var o flag.Options
	o.Credentials = []types.Credential{{Username: "user", Password: "secret"}}
	o.RegistryToken = "token"
	for _, d := range databases {
		reference, err := name.ParseReference(d)
		require.NoError(t, err)
		o.DBRepositories = append(o.DBRepositories, reference)
	}
	return o
}

// The login of flags is for the image's registry: not for that of the databases,
// unless it is the same.
func TestDatabaseOptions(t *testing.T) {
	for _, c := range []struct {
		name      string
		databases []string
		targets   []string
		kept      bool
	}{
		{"another registry", []string{"db.test/trivy-db:2"}, []string{"registry.test/app"}, false},
		{"the same", []string{"registry.test/trivy-db:2"}, []string{"registry.test/app"}, true},
		{"the same and another", []string{"registry.test/trivy-db:2", "db.test/trivy-db:2"}, []string{"registry.test/app"}, false},
		{"another port", []string{"registry.test:5000/trivy-db:2"}, []string{"registry.test/app"}, false},
		{"a name that looks like it", []string{"registry.test.evil/trivy-db:2"}, []string{"registry.test/app"}, false},
		{"a layout", []string{"db.test/trivy-db:2"}, []string{"./layout"}, false},
		{"the databases alone", []string{"db.test/trivy-db:2"}, nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			given := withLogin(t, c.databases...)
			assert.Equal(t, c.kept, hasLogin(databaseOptions(given, c.targets...)))
			assert.True(t, hasLogin(given), "what was given is left as it is")
		})
	}
	checks := withLogin(t)
	checks.MisconfOptions.ChecksBundleRepository = "checks.test/trivy-checks:2"
	assert.False(t, hasLogin(databaseOptions(checks, "registry.test/app")))
}

// With images of several registries a login says not for which it is.
func TestCheckLogin(t *testing.T) {
	o := withLogin(t)
	for _, targets := range [][]string{
		nil, {"./layout"}, {"registry.test/app"}, {"registry.test/app", "registry.test/other", "./layout"}, {"alpine", "docker.io/debian", "index.docker.io/nginx"},
	} {
		assert.NoError(t, checkLogin(o, targets), "%v", targets)
	}
	for _, targets := range [][]string{
		{"registry.test/app", "other.test/app"}, {"registry.test/app", "registry.test:5000/app"}, {"alpine", "docker.io.evil:5000/app"},
	} {
		assert.ErrorContains(t, checkLogin(o, targets), "do not say for which of", "%v", targets)
		assert.NoError(t, checkLogin(flag.Options{}, targets), "%v", targets)
	}
}

// What Trivy's trace leaves in is taken out.
func TestTraceWriter(t *testing.T) {
	var out bytes.Buffer
	text := "GET /blob?X-Amz-Signature=abc&se=1 HTTP/1.1\r\n\x1b[34m/v2/?sig=abc\x1b[0m\r\nLocation: https://storage.test/x?sig=abc\r\n\r\n" +
		`{"refresh_token": "abc", "id_token":"abc", "expires_in": 3}`
	n, err := traceWriter{&out}.Write([]byte(text))
	require.NoError(t, err)
	assert.Equal(t, len(text), n)
	assert.NotContains(t, out.String(), "abc")
	assert.Contains(t, out.String(), "https://storage.test/x?(query)")
	assert.Contains(t, out.String(), `"expires_in": 3`)
	assert.Contains(t, out.String(), "\r\n/v2/?(query)\r\n", "without colours")
}

// The trace holds no long body in memory, and shows nothing of it: what ends within a
// password does not look like one.
func TestTraceOfLongBodies(t *testing.T) {
	for size, shown := range map[int]bool{maxTraced: true, maxTraced + 1: false, 4 << 20: false} {
		body := strings.Repeat("a line of text\n", size/15) + strings.Repeat("x", size%15)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, body) }))
		t.Cleanup(server.Close)
		var out bytes.Buffer
		client := http.Client{Transport: newTracer(http.DefaultTransport, &out)}
		resp, err := client.Get(server.URL)
		require.NoError(t, err)
		got, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		assert.True(t, string(got) == body, "the body of %d bytes is another", size)
		assert.Equal(t, shown, strings.Contains(out.String(), "a line of text"))
		assert.Equal(t, !shown, strings.Contains(out.String(), "<more than 65536 bytes, which are not shown>"))
	}
}
