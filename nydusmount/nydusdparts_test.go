package nydusmount

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCheckVersion(t *testing.T) {
	const help = "--rlimit-nofile N --apisock PATH"
	for _, c := range []struct{ version, help, says string }{
		{"nydusd Version: \tv2.2.0\nGit Commit: x", help, ""},
		{"Version: v2.4.1", help, ""},
		{"nydusd Version: \tunknown", help, ""}, // what cargo builds
		{"nydusd Version: \tunknown", "--apisock PATH", "does not know the options"},
		{"nydusd Version: v1.1.2", help, "version v1.1.2"},
		{"Version: v20.1", help, "version v20.1"},
		{"sleep (GNU coreutils) 9.7", help, "another program"},
		{"", help, "another program"},
	} {
		err := checkVersion(c.version, c.help)
		if c.says == "" {
			assert.NoError(t, err, c.version)
			continue
		}
		assert.ErrorContains(t, err, c.says, c.version)
		assert.ErrorIs(t, err, ErrNydusd)
	}
}

func TestFindNydusd(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"nydusd", "other", "third"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"), 0o755))
	}
	t.Setenv("PATH", dir)
	t.Setenv(environment, "")
	for _, c := range []struct{ given, environment, want string }{
		{"", "", "nydusd"},
		{"", "other", "other"},
		{"third", "other", "third"},
		{filepath.Join(dir, "third"), "", "third"},
	} {
		t.Setenv(environment, c.environment)
		found, err := findNydusd(c.given)
		require.NoError(t, err)
		assert.Equal(t, filepath.Join(dir, c.want), found)
	}
	t.Setenv("PATH", t.TempDir())
	t.Setenv(environment, "")
	_, err := findNydusd("")
	assert.ErrorIs(t, err, ErrNydusd)
	assert.ErrorContains(t, err, "cargo install nydus-rs")
	t.Setenv(environment, "/nowhere")
	_, err = findNydusd("")
	assert.ErrorContains(t, err, "NYDUSD")
}

func TestNydusdConfig(t *testing.T) {
	b, err := ParseBackend("s3", []byte(`{"bucket_name":"b","access_key_id":"key-id","access_key_secret":"secret"}`))
	require.NoError(t, err)
	for _, flag := range []bool{false, true} {
		data, err := nydusdConfig(b, flag, flag)
		require.NoError(t, err)
		type part struct {
			Validate bool
			Prefetch struct {
				Enable bool
				All    bool `json:"prefetch_all"`
			}
		}
		var c struct {
			Version int
			Backend struct {
				Type string
				S3   map[string]string
			}
			Cache, RAFS part
		}
		require.NoError(t, json.Unmarshal(data, &c))
		assert.Equal(t, 2, c.Version)
		assert.Equal(t, "s3", c.Backend.Type)
		assert.Equal(t, "secret", c.Backend.S3["access_key_secret"])
		for _, p := range []part{c.Cache, c.RAFS} {
			assert.Equal(t, flag, p.Validate)
			assert.Equal(t, flag, p.Prefetch.Enable)
			assert.Equal(t, flag, p.Prefetch.All)
		}
	}
	assert.Equal(t, []string{"key-id", "secret"}, b.secrets())
}

// TestSecretsAreNotShown: neither the credentials of the configuration, in any
// of their forms, nor the signatures of addresses.
func TestSecretsAreNotShown(t *testing.T) {
	b := Backend{Type: "registry", Config: []byte(`{"host":"r.example","auth":"dXNlcjpwYXNzd29yZA==","proxy":{"url":"http://u:p@proxy"}}`)}
	log := "\x1b[1mERROR\x1b[0m r.example auth dXNlcjpwYXNzd29yZA== user:password password http://u:p@proxy\n" +
		"\tat /root/.cargo/x.rs:1\n\tnote: enable `RUST_BACKTRACE=1`\n" +
		`url: Url { query: Some("X-Amz-Signature=abc") } https://s3.example/blob?Signature=abc` + "\n" +
		"ERROR [/fuse-backend-rs-0.10.1/x.rs] reply error\n"
	clean := cleanLog(log, b.secrets())
	for _, word := range []string{"dXNlcjpwYXNzd29yZA==", "password", "u:p@", "abc", "\x1b", "RUST_BACKTRACE", ".cargo"} {
		assert.NotContains(t, clean, word)
	}
	assert.Contains(t, clean, "ERROR r.example auth *** ***")
	assert.Equal(t, "url: Url { (query) } https://s3.example/blob(query)", lastWord(clean))

	quoted := cleanLog(`401 "Bearer abc.def-1" eyJhbGciOiJub25l.eyJzdWIiOiIx.sig token=p%40ss+w p@ss\"w`,
		Backend{Type: "registry", Config: []byte(`{"password":"p@ss w","other":"p@ss\"w"}`)}.secrets())
	assert.Equal(t, `401 "Bearer ***" *** token=*** ***`, quoted)

	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, logFile), []byte(strings.Repeat("x", 3*logTail)+"the end\n"), 0o600))
	tail := readLog(dir, nil)
	assert.Empty(t, readLog(t.TempDir(), nil))
	assert.True(t, strings.HasSuffix(tail, "the end"))
	assert.Less(t, len(tail), 2*logTail)
}
