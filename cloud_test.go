package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestCloudLookAlikes: what the environment holds for the registries of the clouds and
// for ghcr.io is for them alone, not for names that look like theirs. The clouds' own
// services are a server here.
func TestCloudLookAlikes(t *testing.T) {
	var asked atomic.Int32
	cloud := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.Header.Get("X-Amz-Target") != "" {
			fmt.Fprint(w, `{"authorizationData":[{"authorizationToken":"QVdTOnRva2Vu"}]}`) // AWS:token
			return
		}
		w.WriteHeader(http.StatusForbidden)
	}))
	t.Cleanup(cloud.Close)
	home := t.TempDir()
	google := filepath.Join(home, "gcr.json")
	require.NoError(t, os.WriteFile(google, []byte(`{"gcrCreds":{"access_token":"token","token_expiry":"2999-01-01T00:00:00Z"}}`), 0o600))
	for name, value := range map[string]string{
		"HOME": home, "DOCKER_CONFIG": home, "XDG_RUNTIME_DIR": home,
		"GITHUB_TOKEN":                "token",
		"DOCKER_CREDENTIAL_GCR_STORE": google,
		"AWS_ACCESS_KEY_ID":           "id", "AWS_SECRET_ACCESS_KEY": "key", "AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL": cloud.URL,
		"IDENTITY_ENDPOINT": cloud.URL, "IDENTITY_HEADER": "header", "AZURE_TOKEN_CREDENTIALS": "ManagedIdentityCredential",
	} {
		t.Setenv(name, value)
	}
	for _, name := range []string{"AZURE_TENANT_ID", "AZURE_CLIENT_ID"} {
		t.Setenv(name, "") // which sets it back in the end
		require.NoError(t, os.Unsetenv(name))
	}
	// given says whether a host is given anything, and whether a cloud was asked for it.
	given := func(host string) (credentials, askedCloud bool) {
		t.Helper()
		asked.Store(0)
		s := &service{session: &session{}}
		o, err := s.imageOptions(t.Context(), host+"/app:tag")
		require.NoError(t, err)
		reference, err := name.ParseReference(host + "/app:tag")
		require.NoError(t, err)
		kept, err := o.Keychain.Resolve(reference.Context())
		require.NoError(t, err)
		return len(o.Credentials) > 0 || kept != authn.Anonymous, asked.Load() > 0
	}
	for _, host := range []string{"gcr.io", "eu.gcr.io", "europe-docker.pkg.dev", "1.dkr.ecr.us-east-1.amazonaws.com", "ghcr.io"} {
		credentials, _ := given(host)
		assert.True(t, credentials, host)
	}
	_, askedCloud := given("own.azurecr.io") // it would be asked for the rest
	assert.True(t, askedCloud, "Azure")

	for _, host := range []string{
		"evilgcr.io", "gcr.io.evil.test", "gcr.io:5000", "eu-gcr.io", "evil-docker.pkg.dev.evil.test", "docker.pkg.dev", "gcr.test",
		"1.dkr.ecr.us-east-1.amazonaws.com.evil.test", "1.dkr.ecr.us-east-1.amazonaws.com:5000", "1.dkr.ecr.us-east-1.amazonaws.com.evil", "1.evil.us-east-1.amazonaws.com", "1.dkr.ecr.us-east-1.amazonawsxcom",
		"notazurecr.io", "not-azurecr.io", "own.azurecr.io.evil.test", "own.azurecr.io:5000",
		"ghcr.io.evil.test", "evilghcr.io", "x.ghcr.io", "ghcr.io:5000", "GHCR.io", "ghcr.test",
	} {
		credentials, askedCloud := given(host)
		assert.False(t, credentials, "%s is given credentials", host)
		assert.False(t, askedCloud, "a cloud is asked for %s", host)
	}
}
