package rafs_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

func TestWalkOrder(t *testing.T) {
	for _, sample := range samples {
		list, inodes := paths(t, openSample(t, sample))
		require.Equal(t, ".", list[0])
		for k, path := range list[1:] {
			parent, previous := ".", list[k]
			if slash := strings.LastIndexByte(path, '/'); slash >= 0 {
				parent = path[:slash]
			}
			require.True(t, inodes[parent].IsDir(), path)
			// Element by element, the order is that of the names' bytes.
			if previous != "." {
				require.Negative(t, slices.Compare(strings.Split(previous, "/"), strings.Split(path, "/")), path)
			}
		}
	}
}

func TestWalkSkips(t *testing.T) {
	tree := openSample(t, "tree-v6/bootstrap")
	failure := errors.New("failure")
	for _, test := range []struct {
		name string
		at   string
		err  error
		want error
		seen []string // of these, the ones that are visited
	}{
		{"directory", "a/b", fs.SkipDir, nil, []string{"a", "a/b", "a/hard3", "data/zeros", "xattrs"}},
		{"rest of the directory", "data/chunks", fs.SkipDir, nil, []string{"a", "a/b", "a/b/c", "a/hard3", "xattrs"}},
		{"everything", "data/chunks", fs.SkipAll, nil, []string{"a", "a/b", "a/b/c", "a/hard3"}},
		{"root", ".", fs.SkipDir, nil, nil},
		{"error", "a", failure, failure, []string{"a"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var seen []string
			err := tree.Walk(func(path string, _ rafs.Inode) error {
				if slices.Contains([]string{"a", "a/b", "a/b/c", "a/hard3", "data/zeros", "xattrs"}, path) {
					seen = append(seen, path)
				}
				if path == test.at {
					return test.err
				}
				return nil
			})
			require.ErrorIs(t, err, test.want)
			assert.Equal(t, test.seen, seen)
		})
	}
}

// BenchmarkOpen opens and walks a bootstrap and reads the chunk lists of all files,
// as a scan does before the first byte of data: nm-v6-acl has some 5,100 inodes,
// tree-v5 3,060.
func BenchmarkOpen(b *testing.B) {
	for _, sample := range []string{"nm-v6-acl", "tree-v5"} {
		b.Run(sample, func(b *testing.B) {
			bootstrap := load(b, sample+"/bootstrap")
			b.ReportAllocs()
			inodes := 0
			for b.Loop() {
				tree, err := rafs.Open(bytes.NewReader(bootstrap), int64(len(bootstrap)))
				require.NoError(b, err)
				err = tree.Walk(func(_ string, i rafs.Inode) error {
					inodes++
					if !i.IsRegular() {
						return nil
					}
					_, err := i.Chunks()
					return err
				})
				require.NoError(b, err)
			}
			b.ReportMetric(b.Elapsed().Seconds()*1e3/float64(inodes)*1e5, "ms/100k-inodes")
		})
	}
}

// TestWalkEnds: a walk and a check end where the context does.
func TestWalkEnds(t *testing.T) {
	because := errors.New("it takes too long")
	for _, sample := range []string{"tree-v5/bootstrap", "tree-v6/bootstrap"} {
		tree := openSample(t, sample)
		ctx, end := context.WithCancelCause(t.Context())
		seen := 0
		err := tree.WalkContext(ctx, func(string, rafs.Inode) error {
			if seen++; seen == 10 {
				end(because)
			}
			return nil
		})
		require.ErrorIs(t, err, because)
		assert.Equal(t, 10, seen)
		require.ErrorIs(t, tree.WalkContext(ctx, func(string, rafs.Inode) error { return fs.SkipAll }), because)

		// What was not looked at is no problem.
		require.ErrorIs(t, tree.Check(ctx, digestOf, func(p rafs.Problem) { assert.Fail(t, p.String()) }), because)
	}
	b := load(t, "tree-v6/bootstrap")
	le.PutUint64(b[1024+16:], 1) // the number of inodes, which takes the whole tree to compare
	v6Inode(t, b, "data")[44]++  // i_nlink
	ctx, end := context.WithCancelCause(t.Context())
	tree, err := openBytes(b)
	require.NoError(t, err)
	var problems []rafs.Problem
	require.ErrorIs(t, tree.Check(ctx, digestOf, func(p rafs.Problem) {
		problems = append(problems, p)
		end(because)
	}), because)
	assert.Equal(t, []string{"data: links"}, found(problems))
}
