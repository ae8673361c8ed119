package consistency_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/consistency"
)

type nodes []consistency.Node

func (n nodes) Walk(fn func(consistency.Node) error) error {
	for _, node := range n {
		if err := fn(node); err != nil {
			return err
		}
	}
	return nil
}

func content(s string) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(s)), nil }
}

// file is a regular file of five bytes with two names.
func file() nodes {
	n := consistency.Node{
		Path: "a", Mode: 0o100644, UID: 1, GID: 2, Rdev: 3, Size: 5, MTime: time.Unix(10, 5), Target: "t",
		Xattrs: map[string][]byte{"user.x": []byte("1")}, Links: 2, Inode: 7, Open: content("hello"),
	}
	b := n
	b.Path = "b"
	return nodes{n, b}
}

func TestCompareFindsEachField(t *testing.T) {
	for _, test := range []struct {
		field string
		alter func(n nodes) nodes
	}{
		{"mode", func(n nodes) nodes { n[0].Mode = 0o104644; return n }},
		{"uid", func(n nodes) nodes { n[0].UID = 0; return n }},
		{"gid", func(n nodes) nodes { n[0].GID = 0; return n }},
		{"rdev", func(n nodes) nodes { n[0].Rdev = 4; return n }},
		{"size", func(n nodes) nodes { n[0].Size = 6; return n }},
		{"mtime", func(n nodes) nodes { n[0].MTime = time.Unix(10, 6); return n }},
		{"mtime", func(n nodes) nodes { n[0].MTime = time.Time{}; return n }},
		{"mtime", func(n nodes) nodes { n[0].MTime, n[0].NoMTime = time.Unix(10, 6), true; return n }},
		{"symlink", func(n nodes) nodes { n[0].Target = "u"; return n }},
		{"links", func(n nodes) nodes { n[0].Links = 3; return n }},
		{"hard links", func(n nodes) nodes { n[0].Inode = 8; return n }},
		{"content", func(n nodes) nodes { n[0].Open = content("hullo"); return n }},
		{"xattr user.x", func(n nodes) nodes { n[0].Xattrs = nil; return n }},
		{"xattr user.y", func(n nodes) nodes {
			n[0].Xattrs = map[string][]byte{"user.x": []byte("1"), "user.y": nil}
			return n
		}},
		{"missing", func(n nodes) nodes { return n[1:] }},
		{"extra", func(n nodes) nodes { return append(n, consistency.Node{Path: "c", Mode: 0o40755, Links: 1}) }},
	} {
		t.Run(test.field, func(t *testing.T) {
			found, err := consistency.Compare(file(), test.alter(file()))
			require.NoError(t, err)
			var fields []string
			for _, d := range found {
				fields = append(fields, d.Field)
				assert.NotEmpty(t, d.String())
			}
			assert.Contains(t, fields, test.field)
		})
	}
	found, err := consistency.Compare(file(), file())
	require.NoError(t, err)
	assert.Empty(t, found)
}

func TestCompareReportsWhatCannotBeRead(t *testing.T) {
	broken := errors.New("broken disk")
	bad := file()
	bad[1].Open = func() (io.ReadCloser, error) { return nil, broken }
	_, err := consistency.Compare(file(), bad)
	assert.ErrorIs(t, err, broken)

	short := file()
	short[0].Open = content("hell")
	_, err = consistency.Compare(file(), short)
	assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
}
