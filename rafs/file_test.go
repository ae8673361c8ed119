package rafs_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// chunkReaderFunc is a ChunkReader made of a function.
type chunkReaderFunc func(*rafs.Chunk) ([]byte, error)

func (f chunkReaderFunc) ReadChunk(c *rafs.Chunk) ([]byte, error) { return f(c) }

// content is what testdata/generate wrote into data/chunks.
func content() []byte {
	b := make([]byte, 5*4096+123)
	for i := range b {
		b[i] = byte(i) ^ byte(i>>8)*7 ^ 6
	}
	return b
}

func TestFileReadsRanges(t *testing.T) {
	want := content()
	for _, version := range []string{"v5", "v6"} {
		tree := openSample(t, "tree-"+version+"/bootstrap")
		file := find(t, tree, "data/chunks").Open("data/chunks", plainBlob(load(t, "tree-"+version+"/blob")))
		var group sync.WaitGroup
		for seed := range uint64(4) {
			group.Go(func() {
				random := rand.New(rand.NewPCG(seed, 0))
				for range 500 {
					offset := random.IntN(len(want))
					b := make([]byte, random.IntN(10_000))
					n, err := file.ReadAt(b, int64(offset))
					assert.True(t, bytes.Equal(want[offset:min(offset+len(b), len(want))], b[:n]))
					if offset+len(b) > len(want) {
						assert.Equal(t, io.EOF, err)
					} else {
						assert.NoError(t, err)
					}
				}
			})
		}
		group.Wait()

		for _, buffer := range []int{1, 100, 4096, 5000, 1 << 16} {
			_, err := file.Seek(0, io.SeekStart)
			require.NoError(t, err)
			var got []byte
			for b := make([]byte, buffer); ; {
				n, err := file.Read(b)
				got = append(got, b[:n]...)
				if err == io.EOF {
					break
				}
				require.NoError(t, err)
			}
			require.True(t, bytes.Equal(want, got))
		}
	}
}

func TestFileFetchesOnlyWhatIsRead(t *testing.T) {
	tree := openSample(t, "tree-v6/bootstrap")
	blob := plainBlob(load(t, "tree-v6/blob"))
	var fetched []int64
	file := find(t, tree, "data/chunks").Open("data/chunks", chunkReaderFunc(func(c *rafs.Chunk) ([]byte, error) {
		fetched = append(fetched, c.FileOffset/4096)
		return blob.ReadChunk(c)
	}))
	for _, test := range []struct {
		offset, size int64
		want         []int64
	}{
		{0, 1, []int64{0}},
		{4095, 2, []int64{0, 1}},
		{4096, 4096, []int64{1}},
		{20_479, 1000, []int64{4, 5}},
		{20_603, 1, nil},
	} {
		fetched = nil
		_, err := file.ReadAt(make([]byte, test.size), test.offset)
		if err != io.EOF {
			require.NoError(t, err)
		}
		assert.Equal(t, test.want, fetched)
	}
	fetched = nil
	for range 20_603 {
		_, err := io.ReadFull(file, make([]byte, 1))
		require.NoError(t, err)
	}
	assert.Equal(t, []int64{0, 1, 2, 3, 4, 5}, fetched, "a sequential read asks once for each chunk")
}

func TestFileErrors(t *testing.T) {
	tree := openSample(t, "tree-v6/bootstrap")
	inode := find(t, tree, "data/chunks")
	cause := errors.New("no network")
	third := chunkReaderFunc(func(c *rafs.Chunk) ([]byte, error) {
		if c.FileOffset == 3*4096 {
			return nil, cause
		}
		return make([]byte, c.UncompressedSize), nil
	})
	b := make([]byte, 20_603)

	n, err := inode.Open("usr/bin/x", third).Read(b)
	assert.Equal(t, 3*4096, n)
	require.ErrorIs(t, err, cause)
	require.EqualError(t, err, "read chunk 3 of usr/bin/x: no network")

	short := chunkReaderFunc(func(*rafs.Chunk) ([]byte, error) { return make([]byte, 4095), nil })
	_, err = inode.Open("x", short).ReadAt(b, 0)
	require.EqualError(t, err, "read chunk 0 of x: got 4095 bytes instead of 4096")

	_, err = inode.Open("x", nil).Read(b)
	require.EqualError(t, err, "read x: no reader of file data was given")
	_, err = tree.Root().Open(".", nil).Read(b)
	require.EqualError(t, err, "read .: is a directory")
	_, err = find(t, tree, "links/loop").Open("l", nil).Read(b)
	require.EqualError(t, err, "read l: is a symbolic link")
	n, err = find(t, tree, "special/fifo").Open("f", nil).Read(b)
	assert.Zero(t, n)
	require.Equal(t, io.EOF, err)

	file := inode.Open("x", third)
	_, err = file.ReadAt(b, -1)
	require.EqualError(t, err, "read x: invalid offset: below zero")
	_, err = file.Seek(-1, io.SeekStart)
	require.EqualError(t, err, "seek x: invalid offset: below zero")
	_, err = file.Seek(0, 3)
	require.EqualError(t, err, "seek x: invalid offset: unknown whence")
	at, err := file.Seek(-3, io.SeekEnd)
	require.NoError(t, err)
	assert.EqualValues(t, 20_600, at)
	require.NoError(t, file.Close())
	for name, call := range map[string]func() error{
		"read":    func() error { _, err := file.Read(b); return err },
		"read at": func() error { _, err := file.ReadAt(b, 0); return err },
		"seek":    func() error { _, err := file.Seek(0, 0); return err },
		"stat":    func() error { _, err := file.Stat(); return err },
		"readdir": func() error { _, err := file.ReadDir(0); return err },
		"close":   file.Close,
	} {
		require.ErrorIs(t, call(), fs.ErrClosed, name)
	}
}

// loader is a ChunkLoader that notes what is loaded at once, and what is let go.
type loader struct {
	plainBlob
	loaded [][]int64 // chunk numbers
	held   int
}

func (l *loader) LoadChunks(chunks []rafs.Chunk) (release func(), err error) {
	var numbers []int64
	for _, c := range chunks {
		numbers = append(numbers, c.FileOffset/4096)
	}
	l.loaded = append(l.loaded, numbers)
	l.held++
	return func() { l.held-- }, errors.New("only what is read counts")
}

func TestFileReadsAhead(t *testing.T) {
	tree := openSample(t, "tree-v6/bootstrap")
	data := &loader{plainBlob: load(t, "tree-v6/blob")}
	file := find(t, tree, "data/chunks").Open("data/chunks", data)
	_, err := file.ReadAt(make([]byte, 9000), 4095)
	require.NoError(t, err)
	assert.Equal(t, [][]int64{{0, 1, 2, 3}}, data.loaded, "all that one read covers")
	assert.Zero(t, data.held)

	data.loaded = nil
	for range 20_603 {
		_, err := io.ReadFull(file, make([]byte, 1))
		require.NoError(t, err)
	}
	assert.Equal(t, [][]int64{{1, 2}, {3, 4, 5}}, data.loaded, "twice as much each time")
	_, err = file.Seek(8192, io.SeekStart)
	require.NoError(t, err)
	_, err = file.Read(make([]byte, 1))
	require.NoError(t, err)
	assert.Len(t, data.loaded, 2, "who jumps has to show first that he goes on")
	_, err = file.Read(make([]byte, 5000))
	require.NoError(t, err)
	assert.Equal(t, []int64{3, 4}, data.loaded[2])
	assert.Equal(t, 1, data.held)
	require.NoError(t, file.Close())
	assert.Zero(t, data.held)
}
