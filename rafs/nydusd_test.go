package rafs_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"sort"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// The columns of expected.tsv that are compared apart from the rest.
const (
	columnPath  = 0
	columnIno   = 7
	columnMTime = 8
)

// TestTreesAsNydusdShowsThem compares every field of every inode, and all file
// data, with what a mount by nydusd showed (testdata/README.md).
func TestTreesAsNydusdShowsThem(t *testing.T) {
	for _, version := range []rafs.Version{rafs.V5, rafs.V6} {
		t.Run(fmt.Sprint("v", version), func(t *testing.T) {
			folder := fmt.Sprintf("tree-v%d/", version)
			tree := openSample(t, folder+"bootstrap")
			data := plainBlob(load(t, folder+"blob"))
			super := tree.Superblock()
			assert.Equal(t, version, super.Version)
			assert.EqualValues(t, 4096, super.ChunkSize)
			assert.Equal(t, rafs.SHA256, super.Digester)
			assert.Equal(t, rafs.CompressorNone, super.Compressor)
			assert.NotZero(t, super.Flags&rafs.FlagExplicitUIDGID)

			_, inodes := paths(t, tree)
			numbers := make(map[string]uint64) // st_ino -> Number
			for _, want := range strings.Split(strings.TrimSpace(string(load(t, folder+"expected.tsv"))), "\n") {
				columns := strings.Split(want, "\t")
				path, err := strconv.Unquote(columns[columnPath])
				require.NoError(t, err)
				require.True(t, contains(inodes, path), "nydusd shows %q", path)
				i := inodes[path]
				delete(inodes, path)
				got := describe(t, path, i, data)
				if i.MTime == 0 {
					// nydusd shows its start time instead.
					columns[columnMTime] = got[columnMTime]
				}
				// Names of one st_ino, and only they, have one Number.
				if number, ok := numbers[columns[columnIno]]; ok {
					assert.Equal(t, number, i.Number, path)
				}
				numbers[columns[columnIno]] = i.Number
				columns[columnIno] = got[columnIno]
				require.Equal(t, columns, got)

				looked := find(t, tree, path)
				require.Equal(t, i, looked, path)
			}
			assert.Empty(t, inodes, "paths that nydusd does not show")
			distinct := make(map[uint64]bool)
			for _, number := range numbers {
				distinct[number] = true
			}
			assert.Len(t, distinct, len(numbers))
		})
	}
}

// describe returns an inode in the columns of expected.tsv.
func describe(t *testing.T, path string, i rafs.Inode, data rafs.ChunkReader) []string {
	target, digest, attrs := "-", "-", "-"
	if i.IsSymlink() {
		text, err := i.Readlink()
		require.NoError(t, err)
		target = strconv.QuoteToASCII(text)
	}
	if i.IsRegular() {
		content, err := io.ReadAll(i.Open(path, data))
		require.NoError(t, err)
		require.EqualValues(t, i.Size, len(content), path)
		if len(content) > 0 {
			digest = fmt.Sprintf("%x", sha256.Sum256(content))
		}
	}
	xattrs, err := i.Xattrs()
	require.NoError(t, err)
	var pairs []string
	for name, value := range xattrs {
		pairs = append(pairs, name+"="+hex.EncodeToString(value))
	}
	if len(pairs) > 0 {
		sort.Strings(pairs)
		attrs = strings.Join(pairs, ",")
	}
	return []string{strconv.QuoteToASCII(path), strconv.FormatUint(uint64(i.Mode), 8),
		fmt.Sprint(i.UID), fmt.Sprint(i.GID), fmt.Sprint(i.Size), fmt.Sprint(i.Links), fmt.Sprint(i.Rdev),
		"ino", fmt.Sprintf("%d.%09d", i.MTime, i.MTimeNsec), target, digest, attrs}
}

// TestSamplesAsNydusdShowsThem compares images of newer builders with mounts.
func TestSamplesAsNydusdShowsThem(t *testing.T) {
	for _, sample := range []string{"nm-v6-acl", "nmaster-merge-v6", "n220-zran-multimember"} {
		t.Run(sample, func(t *testing.T) {
			tree := openSample(t, sample+"/bootstrap")
			_, inodes := paths(t, tree)
			rest := string(load(t, sample+"/expected.list"))
			for rest != "" {
				var columns []string
				columns, rest = cutExpected(rest)
				path := columns[0]
				if path == "" {
					path = "."
				}
				require.True(t, contains(inodes, path), "nydusd shows %q", path)
				i := inodes[path]
				delete(inodes, path)
				got := describeShort(t, i)
				if i.MTime == 0 {
					columns[7] = got[6]
				}
				require.Equal(t, columns[1:], got, path)
			}
			assert.Empty(t, inodes, "paths that nydusd does not show")
		})
	}
}

// cutExpected cuts one entry off an expected.list. A name may have line breaks.
func cutExpected(list string) (columns []string, rest string) {
	end := 0
	for {
		end += strings.IndexByte(list[end:], '\n') + 1
		columns = strings.Split(list[:end-1], "|")
		if len(columns) == 8 {
			return columns, list[end:]
		}
	}
}

// describeShort returns an inode in the columns of expected.list, but for the path.
func describeShort(t *testing.T, i rafs.Inode) []string {
	kinds := map[uint32]string{1: "p", 2: "c", 4: "d", 6: "b", 8: "f", 10: "l", 12: "s"}
	target := ""
	if i.IsSymlink() {
		var err error
		target, err = i.Readlink()
		require.NoError(t, err)
	}
	return []string{kinds[i.Mode>>12], strconv.FormatUint(uint64(i.Mode&0o7777), 8),
		fmt.Sprintf("%d:%d", i.UID, i.GID), fmt.Sprint(i.Size), fmt.Sprint(i.Links), target,
		fmt.Sprintf("%d.%09d0", i.MTime, i.MTimeNsec)}
}

func contains(inodes map[string]rafs.Inode, path string) bool {
	_, ok := inodes[path]
	return ok
}
