package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
)

// TestTokensAreNotShown looks for tokens in logs at every level: those that the token
// service gives for a refresh token, this one, and the one of --registry-token.
func TestTokensAreNotShown(t *testing.T) {
	t.Parallel()
	const refresh, access, next = "refresh-" + secretPassword, "access-" + secretPassword, "next-" + secretPassword
	registry := testregistry.Start(t)
	reference := publish(t, registry, testimage.SecretCmd(t))[len(registry.Host()):]
	front := testregistry.CountingProxy(t, registry.Host())
	front.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case r.URL.Path == "/token":
			if r.FormValue("refresh_token") != refresh {
				http.Error(w, "it is not "+r.FormValue("refresh_token")+r.Header.Get("Authorization"), http.StatusForbidden)
				return true
			}
			fmt.Fprintf(w, `{"access_token": %q, "refresh_token": %q, "expires_in": 300}`, access, next)
		case r.Header.Get("Authorization") != "Bearer "+access:
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="test"`, front.URL()))
			http.Error(w, "it is not "+r.Header.Get("Authorization"), http.StatusUnauthorized)
		default:
			return false
		}
		return true
	})
	for _, c := range []struct {
		name, identity, token string
		code                  int
		level                 []string
	}{
		{"refresh token", refresh, "", 0, []string{"--debug", "--trace-http"}},
		{"another refresh token", "other-" + refresh, "", 2, []string{"--debug", "--trace-http"}},
		{"registry token", "", access, 0, []string{"--debug", "--trace-http"}},
		{"another registry token", "", "other-" + access, 2, []string{"--debug", "--trace-http"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			image := front.Host() + reference
			for _, args := range [][]string{
				append(slices.Clone(scanFlags), "--format", "json", image+":v6"),
				{"inspect", image + ":v6", "layers"},
			} {
				p := prepare(t, "trivy-nydus", slices.Concat(args, c.level, []string{"--cache-dir", "cache"})...)
				temp := filepath.Join(p.Dir, "temp")
				require.NoError(t, os.Mkdir(temp, 0o700))
				p.Env = append(p.Env, "TMPDIR="+temp)
				if c.identity != "" {
					config := fmt.Sprintf(`{"auths": {%q: {"identitytoken": %q}}}`, front.Host(), c.identity)
					require.NoError(t, os.WriteFile(filepath.Join(p.Dir, "config.json"), []byte(config), 0o600))
				} else {
					p.Env = append(p.Env, "TRIVY_REGISTRY_TOKEN="+c.token)
				}
				require.NoError(t, p.Start())
				r := p.wait(t)
				assert.Equal(t, c.code, r.code, r.stderr)
				assert.Equal(t, len(c.level) > 1, strings.Contains(r.stderr, "HTTP REQUEST"))
				assertNoSecret(t, "stdout", r.stdout)
				assertNoSecret(t, "stderr", r.stderr)
				assertNoSecretBelow(t, p.Dir)
			}
		})
	}
}
