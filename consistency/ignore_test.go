package consistency

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestIgnore(t *testing.T) {
	for _, c := range []struct {
		pattern, path, field string
		want                 bool
	}{
		{"etc/passwd", "etc/passwd", "mode", true},
		{"/etc/passwd", "etc/passwd", "mode", true},
		{"./etc/passwd", "etc/passwd", "mode", true},
		{"etc/passwd", "etc/passwd-", "mode", false},
		{"etc", "etc/passwd", "mode", false},
		{"etc/*", "etc/passwd", "mode", true},
		{"etc/*", "etc/ssl/certs", "mode", false},
		{"etc/**", "etc", "mode", true},
		{"etc/**", "etc/ssl/certs", "mode", true},
		{"etc/**", "etcetera", "mode", false},
		{"**/*.pyc", "a.pyc", "content", true},
		{"**/*.pyc", "usr/lib/a.pyc", "content", true},
		{"**/*.pyc", "usr/lib/a.py", "content", false},
		{"**/cache/**/x", "a/cache/cache/b/x", "content", true},
		{"**/cache/**/x", "a/cache/b/y", "content", false},
		{"a/**/b/**/c", "a/b/x/b/c", "content", true},
		{"**", ".", "mtime", true},
		{"/", ".", "mtime", true},
		{".", ".", "mtime", true},
		{"/", "etc", "mtime", false},
		{".git/config", ".git/config", "mtime", true},
		{"etc/passwd:mode", "etc/passwd", "mode", true},
		{"etc/passwd:mode", "etc/passwd", "uid", false},
		{":mtime", "any/thing", "mtime", true},
		{":mtime", "any/thing", "mode", false},
		{"a:b:", "a:b", "mode", true},
		{"a:b:mode", "a:b", "mode", true},
		{":xattr security.*", "x", "xattr security.capability", true},
		{":xattr security.*", "x", "xattr user.x", false},
		{":*selinux", "x", "xattr security.selinux", true},
		{":x*a*x", "x", "xax", true},
		{":x*a*x", "x", "xx", false},
		{":aa*aa", "x", "aaa", false},
		{"config:config.Env[2]", "config", "config.Env[2]", true},
		{"config:config.Env[2]", "config", "config.Env2", false},
		{"config:history*", "config", "history[0].created_by", true},
	} {
		i, err := ParseIgnore(c.pattern)
		require.NoError(t, err, c.pattern)
		assert.Equal(t, c.want, i.Matches(Difference{Path: c.path, Field: c.field}), "%q: %s of %s", c.pattern, c.field, c.path)
	}
	for _, bad := range []string{"", ":", "a[", "a/[b/**:mode"} {
		_, err := ParseIgnore(bad)
		assert.Error(t, err, bad)
	}
}

// TestIgnoreTakesNoTime: each "**" might be tried at each element.
func TestIgnoreTakesNoTime(t *testing.T) {
	name, pattern := "", ""
	for range 2000 {
		name += "a/"
	}
	for range 30 {
		pattern += "**/a/"
	}
	i, err := ParseIgnore(pattern + "b")
	require.NoError(t, err)
	assert.False(t, i.Matches(Difference{Path: name + "c"}))
}

func TestSettle(t *testing.T) {
	r := Result{Differences: []Difference{
		{Path: "b", Field: "uid"}, {Path: "b", Field: "gid"}, {Path: "a", Field: "uid"}, {Path: "c", Field: "mtime"},
	}}
	r.settle([]Ignore{{Field: "mtime"}, {Path: "b", Field: "uid"}})
	assert.Equal(t, []Difference{{Path: "a", Field: "uid"}, {Path: "b", Field: "gid"}}, r.Differences)
	assert.Equal(t, 2, r.Ignored)
	assert.Equal(t, Different, r.Verdict())
	r.settle([]Ignore{{Path: "**"}})
	assert.Equal(t, 4, r.Ignored)
	assert.Equal(t, Equal, r.Verdict())
}

func TestVerdict(t *testing.T) {
	broken := Result{Err: assert.AnError, Differences: []Difference{{}}}
	for _, c := range []struct {
		results []Result
		want    Verdict
	}{
		{nil, Skipped},
		{[]Result{{Skipped: "why"}}, Skipped},
		{[]Result{{}, {Skipped: "why"}}, Equal},
		{[]Result{{Differences: []Difference{{}}}, {}}, Different},
		{[]Result{{Differences: []Difference{{}}}, broken, {}}, Incomplete},
	} {
		assert.Equal(t, c.want, (&Report{Results: c.results}).Verdict())
	}
}
