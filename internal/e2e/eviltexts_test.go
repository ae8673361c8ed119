package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
)

// evilWord is what a terminal would obey, without what ends a header.
const evilWord = "esc\x1b[31mred\x1b]0;title\x07 c1\u009b31m bidi\u202egnp del\x7f latin\xe9."

// headerWord is what of it a header may hold: of others Go's HTTP takes no answer.
const headerWord = "c1\u009b31m bidi\u202egnp latin\xe9."

// TestEvilAnswers has a registry say what a terminal would obey, wherever an answer of HTTP has
// room for it.
func TestEvilAnswers(t *testing.T) {
	t.Parallel()
	registry := testregistry.Start(t)
	tiny := publish(t, registry, testimage.Tiny(t))
	body, err := json.Marshal(map[string]any{"errors": []any{map[string]any{"code": evilWord, "message": evilWord, "detail": evilWord}}})
	require.NoError(t, err)
	manifest := func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/manifests/") }
	ranged := func(r *http.Request) bool { return r.Header.Get("Range") != "" }
	all := func(*http.Request) bool { return true }
	for name, c := range map[string]struct {
		where  func(*http.Request) bool
		status string
		header string
		body   string
	}{
		"status":                 {manifest, "403 " + evilWord, "", ""},
		"status of a blob":       {ranged, "403 " + evilWord, "", ""},
		"error":                  {manifest, "404 Not Found", "Content-Type: application/json\r\n", string(body)},
		"error of a blob":        {ranged, "404 Not Found", "Content-Type: application/json\r\n", string(body)},
		"error in plain text":    {manifest, "400 Bad Request", "", evilWord},
		"text of a blob's error": {ranged, "400 Bad Request", "", evilWord},
		"challenge":              {all, "401 Unauthorized", "Www-Authenticate: " + headerWord + "\r\n", ""},
		"realm":                  {all, "401 Unauthorized", `Www-Authenticate: Bearer realm="http://127.0.0.1:1/` + headerWord + "\",service=\"x\"\r\n", ""},
		"realm's host":           {all, "401 Unauthorized", `Www-Authenticate: Bearer realm="https://` + headerWord + "/token\",service=\"x\"\r\n", ""},
		"service":                {all, "401 Unauthorized", `Www-Authenticate: Bearer realm="http://127.0.0.1:1/token",service="` + headerWord + "\"\r\n", ""},
		"redirect":               {manifest, "307 Temporary Redirect", "Location: http://127.0.0.1:1/" + headerWord + "\r\n", ""},
		"redirect of a blob":     {ranged, "307 Temporary Redirect", "Location: http://127.0.0.1:1/" + headerWord + "\r\n", ""},
		"redirect to no host":    {ranged, "307 Temporary Redirect", "Location: " + headerWord + "\r\n", ""},
		"redirect to a host":     {ranged, "307 Temporary Redirect", "Location: http://" + headerWord + "/x\r\n", ""},
		"type":                   {manifest, "200 OK", "Content-Type: " + headerWord + "\r\n", "{}"},
		"type of ranges":         {ranged, "206 Partial Content", "Content-Type: multipart/byteranges; boundary=" + headerWord + "\r\n", "x"},
		"digest":                 {manifest, "200 OK", "Content-Type: application/vnd.oci.image.manifest.v1+json\r\nDocker-Content-Digest: " + headerWord + "\r\n", "{}"},
		"document":               {manifest, "200 OK", "Content-Type: application/vnd.oci.image.manifest.v1+json\r\n", evilWord},
		"media type in a value":  {manifest, "200 OK", "Content-Type: application/vnd.oci.image.manifest.v1+json\r\n", `{"schemaVersion": 2, "mediaType": "\u001b[31mred", "layers": [{"mediaType": "\u001b]0;title\u0007", "digest": "sha256:\u001b[31mred"}]}`},
		"range":                  {ranged, "206 Partial Content", "Content-Range: " + headerWord + "\r\n", "x"},
		"time to wait":           {ranged, "429 Too Many Requests", "Retry-After: 3600\r\nX: " + headerWord + "\r\n", evilWord},
		"encoding":               {ranged, "206 Partial Content", "Content-Encoding: " + headerWord + "\r\n", "x"},
		"a header that is none":  {manifest, "200 OK", "Content-Type: " + evilWord + "\r\n", "{}"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			evil := testregistry.CountingProxy(t, registry.Host())
			evil.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
				if !c.where(r) {
					return false
				}
				connection, _, err := http.NewResponseController(w).Hijack()
				if err != nil {
					return false
				}
				defer connection.Close()
				_, _ = fmt.Fprintf(connection, "HTTP/1.1 %s\r\n%sContent-Length: %d\r\nConnection: close\r\n\r\n%s", c.status, c.header, len(c.body), c.body)
				return true
			})
			reference := evil.Host() + strings.TrimPrefix(tiny, registry.Host())
			scan, _ := scanArguments(t, reference+":v6", "--debug")
			for _, args := range [][]string{
				slices.DeleteFunc(scan, func(a string) bool { return a == "--quiet" }),
				{"inspect", "--cache-dir", t.TempDir(), "--trace-http", reference + ":v6", "cat", "/srv/app/deploy.env"},
				{"check", "--cache-dir", t.TempDir(), "--data", "full", reference + ":oci", reference + ":v6"},
			} {
				r := bounded(t, args...)
				assert.Equal(t, 2, r.code, "%v: %s", args, r.stderr)
				visible(t, args[0], r.stdout)
				visible(t, args[0], r.stderr)
			}
		})
	}
}

// TestEvilDocuments has manifests, configs and histories say such things.
func TestEvilDocuments(t *testing.T) {
	t.Parallel()
	evil := strings.TrimSuffix(evilWord, " latin\xe9.") // which JSON does not hold
	secret := secretText("srv/.env")
	for name, c := range map[string]testimage.Crafted{
		"annotations": {Edit: func(m *v1.Manifest) {
			m.Annotations = map[string]string{evil: evil, "containerd.io/snapshot/nydus-builder-version": evil}
			for i := range m.Layers {
				m.Layers[i].Annotations[evil], m.Layers[i].Annotations["containerd.io/snapshot/nydus-source-digest"] = evil, evil
			}
		}},
		"media types":         {Edit: func(m *v1.Manifest) { m.Layers[0].MediaType = "application/" + "esc\x1b[31mred" }},
		"config's media type": {Edit: func(m *v1.Manifest) { m.Config.MediaType = "application/" + "esc\x1b[31mred" }},
		"version":             {Edit: func(m *v1.Manifest) { m.Layers[len(m.Layers)-1].Annotations[testimage.AnnotationFSVersion] = evil }},
		"urls":                {Edit: func(m *v1.Manifest) { m.Layers[0].URLs = []string{evil, "http://" + evil} }},
		"history": {
			History: []v1.History{{CreatedBy: evil, Comment: evil, Author: evil}, {CreatedBy: "RUN " + evil}},
			Config:  v1.Config{Labels: map[string]string{evil: evil}, Env: []string{evil}, Cmd: []string{evil}, User: evil, WorkingDir: evil},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.Merged = []testimage.CraftedFile{secret}
			dir := craftedLayout(t, c)
			cache := t.TempDir()
			scan, _ := scanArguments(t, dir, "--debug")
			oci := t.TempDir()
			testimage.WriteLayout(t, oci, map[string]any{"oci": testimage.BuildOCI(t, testimage.SecretCmd(t))})
			for _, args := range [][]string{
				slices.DeleteFunc(scan, func(a string) bool { return a == "--quiet" }),
				{"check", "--cache-dir", cache, dir},
				{"check", "--cache-dir", cache, "--data", "full", oci + ":oci", dir},
				{"check", "--cache-dir", cache, "--format", "json", oci + ":oci", dir},
				{"inspect", "--cache-dir", cache, dir, "manifest"},
				{"inspect", "--cache-dir", cache, dir, "layers"},
				{"inspect", "--cache-dir", cache, dir, "stats"},
				{"inspect", "--cache-dir", cache, dir, "blobs"},
				{"inspect", "--cache-dir", cache, "--format", "json", dir, "manifest"},
			} {
				r := bounded(t, args...)
				visible(t, strings.Join(args, " "), r.stdout)
				visible(t, strings.Join(args, " "), r.stderr)
			}
		})
	}
}
